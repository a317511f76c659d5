package torture

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
)

// Options say what to do. Self is required.
type Options struct {
	// Self is the command line of a program that calls [Part] with the arguments
	// that follow.
	Self []string
	Seed uint64
	// Duration of the load and the faults; healing and checking come on top.
	// Default 25 s.
	Duration time.Duration
	// Nodes is how many servers are started: 1 (the default) or 3.
	Nodes int
	// Rate is how many operations are submitted in a second. Default 100.
	Rate float64
	// Overlap is how many faults may be under way at once. Default 3.
	Overlap int
	// Sync has the servers write to the disk before each acknowledgement. Only a
	// power cut needs that; it is slow.
	Sync bool
	// Partitions of the system; default 8, and 16 for a matrix.
	Partitions int

	// Server is the address of a system of the user's own. Then no server is
	// started and none is hurt: only the roles that are started here are, and
	// leaders are asked to step down. Connect connects to it, and Flags are what the
	// roles need to do the same.
	Server  bool
	Connect func(...nats.Option) (*nats.Conn, error)
	Flags   []string

	// Matrix: which failpoints, which actions, and how often each. Zero values are
	// all points, kill, stop and panic, and 20.
	Points  *regexp.Regexp
	Actions []failpoint.Action
	Repeat  int
	// Lanes is how many resolvers are driven into failpoints at once. Default 6.
	Lanes int

	// Dir is where everything is kept, in a directory of its own; "" is the
	// system's place for temporary files. It is removed after a run in which
	// nothing failed, unless Keep is set.
	Dir  string
	Keep bool
	// Patience is how long nothing may end after the last fault while operations are
	// open. Default 90 s.
	Patience time.Duration
	// Progress is told about five times a second how far the run is, Say what
	// happens. Both may be nil and are called from one goroutine at a time.
	Progress func(Progress)
	Say      func(string)

	slack time.Duration // what a target may wait beyond its bound; only for tests that share a machine
}

// Progress is how far a run is.
type Progress struct {
	Phase   string
	Done    float64 // of the phase, 0 to 1
	Elapsed time.Duration
	Accepted, Ended, Succeeded, Unknown,
	Faults, Hits int
	Last string // the last fault
}

func (o *Options) defaults() error {
	if len(o.Self) == 0 {
		return errors.New("torture: nothing to start")
	}
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.Nodes != 1 && o.Nodes != 3 {
		return fmt.Errorf("torture: %d nodes: there are runs on 1 and on 3", o.Nodes)
	}
	if o.Duration <= 0 {
		o.Duration = 25 * time.Second
	}
	if o.Rate <= 0 {
		o.Rate = 100
	}
	if o.Overlap <= 0 {
		o.Overlap = 3
	}
	if o.Partitions <= 0 {
		o.Partitions = 8
	}
	if o.Repeat <= 0 {
		o.Repeat = 20
	}
	if o.Lanes <= 0 {
		o.Lanes = 6
	}
	if len(o.Actions) == 0 {
		o.Actions = []failpoint.Action{failpoint.Kill, failpoint.Stop, failpoint.Panic}
	}
	if o.Patience <= 0 {
		o.Patience = 90 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	return nil
}

const (
	// attemptLease is short, so that a run of seconds sees attempts lapse.
	attemptLease = 3 * time.Second
	// roleLease is the least that the server offers: the length of the gaps is all
	// that depends on it.
	roleLease = time.Second
	// snapshotEvery is so small that snapshots are taken all the time.
	snapshotEvery = 40
	// allowance is what a key may take beside the lease of its attempt until it is
	// served again after a fault.
	allowance = 15 * time.Second
	// tortureType is an operation type whose handlers run in this process and do
	// what the params say.
	tortureType = "torture"
)

// policy is in force on a system that is started here.
func policy(age time.Duration) string {
	text, err := json.Marshal(map[string]any{
		"attempt_timeout":  attemptLease.String(),
		"retry_base_delay": "20ms", "retry_max_delay": "500ms",
		"grace_period": "50ms", "preemption": "after_grace",
		"max_operation_age": age.String(),
		"types":             map[string]any{tortureType: map[string]any{}},
	})
	if err != nil { // a map of strings
		panic(err)
	}
	return string(text)
}
