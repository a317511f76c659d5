package sim

import (
	"io"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/resolver"
)

// Result is what became of one history.
type Result struct {
	Seed     uint64
	Failures []string // violated invariants; none: the history is as it should be
	Hash     uint64   // of the trace: the same for the same seed
	Actions  int
	Events   uint64
	Stats    Stats
	trace    *trace
}

// OK reports whether no invariant was broken.
func (r *Result) OK() bool { return len(r.Failures) == 0 }

// WriteTrace writes the last n actions of the history; 0: all of them.
func (r *Result) WriteTrace(w io.Writer, n int) { r.trace.write(w, n) }

// Bounds of a history.
const (
	// patience is how long after the last fault everything must have ended, in
	// simulated time: leases, backoffs and acknowledgements that were lost.
	patience = 4 * time.Minute
	// maxEvents bounds the work: a history that goes round in circles ends.
	maxEvents = 2_000_000
)

// Options change what a history may be. The zero value is what the project keeps
// to.
type Options struct {
	// StaleViews lets a leader that was deposed answer reads of entities, of
	// records and of the end of the intake, too. The resolver cannot tell, so that
	// histories with this fault do break invariants: see the package's text.
	StaleViews bool

	// wrap stands between the resolvers and the log, for faults that tests plant.
	wrap func(w *world, log resolver.Log) resolver.Log
	// told changes what executors and readers are answered, for the same purpose.
	told func([]byte) []byte
}

// Run makes one history. The same seed makes the same history.
func Run(seed uint64, o Options) *Result {
	w := newWorld(seed, o)
	w.begin()
	w.k.after(w.trouble, w.heal)
	w.play()
	w.stop()
	k := w.k
	return &Result{
		Seed: seed, Failures: w.check.failed, Hash: k.trace.hash, Actions: len(k.trace.acts), Events: k.n,
		Stats: *w.stats, trace: &k.trace,
	}
}

// play lets the history happen until it is quiet, wrong or too long.
func (w *world) play() {
	k, c := w.k, w.check
	look := time.Duration(0)
	for len(c.failed) == 0 {
		if !k.step() {
			c.fail("liveness.stopped", "nothing happens any more, and there is left: %s", c.open())
			return
		}
		if k.n > maxEvents {
			c.fail("liveness.circles", "%d events, and there is left: %s", k.n, c.open())
			return
		}
		if !w.healed || k.now < look {
			continue
		}
		look = k.now + 100*time.Millisecond
		if w.settled() && c.quiet() {
			c.finish()
			return
		}
		if k.now > w.trouble+patience {
			c.fail("liveness.stuck", "%s after the last fault there is left: %s", patience, c.open())
			return
		}
	}
}

// settled reports whether the clients have what they want.
func (w *world) settled() bool {
	for _, c := range w.clients {
		if !c.done() {
			return false
		}
	}
	return true
}

// stop ends all processes.
func (w *world) stop() {
	for _, p := range w.processes() {
		p.gone = true
		p.kill()
	}
}
