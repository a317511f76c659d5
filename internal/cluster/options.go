package cluster

import (
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

// NoListener as [Options.Port] gives the server no socket.
const NoListener = natsd.NoListener

// Options say what to start. Only StoreDir is required.
type Options struct {
	StoreDir   string // of the server; what is in it already is kept and used
	Memory     bool   // nothing but the server's own notes is written to StoreDir; it ends with the cluster
	Host       string // to listen on; default 127.0.0.1
	Port       int    // 0: a free one; NoListener: none
	HTTP       string // address of the observer's pages and metrics; "": none. Port 0: a free one
	Resolvers  int    // default 1
	Executors  int    // of the default pool; default 2
	Layout     *bus.Layout
	Logger     *slog.Logger // nil drops everything
	SyncAlways bool         // fsync before every acknowledgement
	Version    string       // of the program, for the services and metrics

	// Policy, as operators write it, is in force before the first role starts.
	// Nil leaves what is stored.
	Policy []byte
	// Pools are executors of other pools, for handlers that are asked over NATS.
	Pools []Pool
	// Workers run handlers in Go. The types belong into the policy.
	Workers []Worker

	Concurrency int           // of one executor; 0: executor.DefaultConcurrency
	Drain       time.Duration // of executors and submitter when they end; 0: theirs
	LeaseTTL    time.Duration // of a resolver; 0: the resolver's default
	ProbeEvery  time.Duration // of the observer; 0: its default
}

// Pool is a pool of executors.
type Pool struct {
	Name      string // a token, not that of the default pool
	Executors int    // default 1
}

// Worker is a role of handlers in Go, which can be killed and restarted like any
// other.
type Worker struct {
	Name string
	// New makes the worker on a connection of its own, every time that it starts.
	New func(nc *nats.Conn) *worker.Worker
}

func (o *Options) defaults() {
	if o.Resolvers <= 0 {
		o.Resolvers = 1
	}
	if o.Executors <= 0 {
		o.Executors = 2
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	l := bus.DefaultLayout()
	if o.Layout != nil {
		l = *o.Layout
	}
	if o.Memory {
		_ = l.Storage.UnmarshalJSON([]byte(`"memory"`)) // only a name that it does not know is an error
	}
	o.Layout = &l
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// maxMemory is what streams in memory may reserve. The server would take a share
// of the machine, which may be less than the limits of our streams: those are
// limits, and a system in memory is for little data.
func (o *Options) maxMemory() int64 {
	if o.Memory {
		return 1 << 40
	}
	return 0
}

// pools are all pools, the default one first.
func (o *Options) pools() []Pool {
	all := []Pool{{Name: op.DefaultPool, Executors: o.Executors}}
	for _, p := range o.Pools {
		p.Executors = max(p.Executors, 1)
		all = append(all, p)
	}
	return all
}
