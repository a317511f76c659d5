package doctor

import (
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/service"
)

// Facts are what the system says about itself at one instant.
type Facts struct {
	At      time.Time // of this machine
	Version string    // of this program
	Server  Server
	// Skew is the clock of this machine minus that of the server; SkewError
	// bounds how wrong that may be.
	Skew, SkewError time.Duration
	Account         Account
	AccountError    string // why there is no Account
	Layout          bus.Layout
	Changes         []bus.Change // what setup would do
	Streams         []Stream
	Monitors        []Monitor
	Roles           []service.Status
	Leases          []string // resolvers alive
	Partitions      []Partition
	Policy          Policy
	Pools           []Pool
	Observed        *Observed // nil: no observer answered
}

// Server is the one that we are connected to.
type Server struct {
	Name, ID, Version, Cluster, URL string
	MaxPayload                      int64 // bytes
	RTT                             time.Duration
	TLS, Loopback                   bool
}

// Account is what the server counts for our account, in bytes and pieces. A
// limit below 0 is none.
type Account struct {
	Memory, Store           uint64
	MaxMemory, MaxStore     int64
	Streams, Consumers      int
	MaxStreams, MaxConsumer int
}

// Stream is one of the streams, buckets included.
type Stream struct {
	Name               string
	Replicas           int
	File               bool
	Async              bool // it acknowledges before it writes
	Messages, Bytes    uint64
	MaxMsgs, MaxBytes  int64 // 0 or less: none
	MaxAge             time.Duration
	FirstSeq, Deleted  uint64
	Clustered          bool
	Leader             string   // of a clustered one; "" while there is none
	Followers, Missing int      // Missing: followers that are offline or not current
	Servers            []string // that hold a copy
}

// Monitor is what one monitoring port says.
type Monitor struct {
	URL          string
	Error        string // why it says nothing
	Server, ID   string
	Version      string
	SyncAlways   bool
	SyncInterval time.Duration
	Store        uint64
	MaxStore     int64
	Guessed      bool // nobody named it: it was tried
	// Skew is its clock minus that of this machine; SkewError bounds how wrong
	// that may be.
	Skew, SkewError time.Duration
	Unhealthy       string // what /healthz says, where that is not ok, or why it says nothing
}

// Partition is how far a partition has come.
type Partition struct {
	ID     int
	Owner  string // of the last step; "": there is none
	Step   uint64
	Mark   uint64    // last step whose outputs are told
	At     time.Time // of the last step, by its owner
	Stored time.Time // when the server stored it
	Unread bool      // the intake holds more than the step has consumed
}

// Policy is the one on the server.
type Policy struct {
	Revision uint64
	Error    string // why nobody can read it
}

// Pool is the executors that serve some types, as the server sees them.
type Pool struct {
	Name    string
	Types   []string // registered for it; those of the default pool are built in, too
	Known   bool     // an executor has asked for its work at some time
	Waiting int      // requests for work that are open now
	Unacked int      // pieces of work in somebody's hands
	Pending uint64   // pieces of work that nobody has fetched
}

// Observed is what an observer says about the whole.
type Observed struct {
	Status  string
	Reasons []string
}
