package sim

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
)

// The metrics of all processes: nobody scrapes them.
var (
	nobody          *metrics.Registry
	resolverMetrics = nobody.Resolver()
	executorMetrics = nobody.Executor()
	silence         = slog.New(slog.DiscardHandler)
)

// server is one resolver process. Which partitions it serves is what it believes,
// and several may believe the same.
type server struct {
	*process
	w      *world
	node   *resolver.Node
	claims []bool
	reigns []*reign // by partition; nil: it does not serve it
}

// reign is one partition in the hands of a process.
type reign struct {
	s       *server
	part    int
	scope   *scope
	core    *resolver.Reign
	ctx     context.Context //nolint:containedctx // of the reign's own calls
	owner   *task           // which takes over again
	main    *task
	emit    *task
	serving bool
	ended   bool // the loop has ended: what is committed is still told
	pos     uint64
	due     bool // a delivery of the intake is under way
	stalled time.Duration
	trimmed uint64
	trim    bool
}

func (w *world) addServer(name string) *server {
	s := &server{w: w, claims: make([]bool, w.partitions)}
	s.process = &process{k: w.k, name: name, begin: s.begin}
	return s
}

func (s *server) begin() {
	s.reigns = make([]*reign, s.w.partitions)
	var log resolver.Log = &client{s.w.cluster}
	if s.w.wrap != nil {
		log = s.w.wrap(s.w, log)
	}
	s.node = resolver.NewNode(
		resolver.Config{Name: s.name, Logger: silence, Metrics: resolverMetrics, SnapshotEvery: s.w.snapshotEvery},
		log,
		resolver.World{Now: s.now, NewID: s.w.newID, Sleep: s.sleep, Go: s.run, Readers: 1},
	)
	s.scope.spawn(func(t *task) {
		s.readPolicy()
		for p := range s.claims {
			if s.claims[p] {
				s.claim(p)
			}
		}
	})
}

// readPolicy shows the policy on the server to the partitions, as the watch does.
func (s *server) readPolicy() {
	data, rev, _ := (&client{s.w.cluster}).Policy(context.Background()) // it asks until it is answered
	if rev > 0 {
		s.node.PutPolicy(data, rev)
	}
	for _, r := range s.reigns {
		if r != nil {
			r.main.wake()
		}
	}
}

// claim makes the process believe that a partition is its own.
func (s *server) claim(p int) {
	s.claims[p] = true
	if s.dead || s.reigns[p] != nil {
		return
	}
	s.serve(p)
}

// unclaim makes it believe that the partition has gone to another.
func (s *server) unclaim(p int) {
	s.claims[p] = false
	if !s.dead && s.reigns[p] != nil {
		s.reigns[p].main.wake()
	}
}

// serve takes the partition over and over while it is claimed.
func (s *server) serve(p int) {
	r := &reign{s: s, part: p, ctx: context.Background()}
	s.reigns[p] = r
	s.scope.spawn(func(t *task) {
		for s.claims[p] {
			err := r.own(t)
			s.w.k.trace.add(s.k.now, s.name, "reign ends", "p"+strconv.Itoa(p)+" "+errText(err), 0, 0)
			if s.claims[p] {
				t.sleep(s.k.between(20*time.Millisecond, 400*time.Millisecond))
			}
		}
		s.reigns[p] = nil
	})
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// own is one reign, from the take-over to its end.
func (r *reign) own(t *task) error {
	s := r.s
	r.scope, r.owner = s.scope.sub(), t
	r.core = s.node.Reign(r.part)
	r.main, r.emit, r.serving, r.ended, r.due, r.stalled, r.trim, r.trimmed = nil, nil, false, false, false, 0, false, 0
	var end error
	over := false
	r.main = r.scope.spawn(func(m *task) {
		end = r.loop(m)
		over = true
		t.wake()
	})
	r.scope.main = r.main
	for !over {
		t.wait(time.Hour)
	}
	r.ended = true
	if r.emit != nil && (end == nil || resolver.Deposed(end)) {
		// What is committed is told before it goes.
		r.emit.wake()
		for until := s.k.now + 2*time.Second; !r.emit.done && s.k.now < until; {
			t.wait(until - s.k.now)
		}
	}
	if r.scope != nil {
		r.scope.kill()
	}
	r.core.Close()
	r.serving = false
	return end
}

// loop is the reign itself.
func (r *reign) loop(m *task) error {
	w := r.s.w
	if err := r.core.TakeOver(r.ctx); err != nil {
		w.stats.TakeoversFailed++
		return err
	}
	w.stats.Takeovers++
	r.serving, r.pos = true, r.core.Cursor()
	w.k.trace.add(w.k.now, r.s.name, "TAKES OVER", "p"+strconv.Itoa(r.part), r.core.Epoch(), 0)
	var failed error
	r.emit = r.scope.spawn(func(e *task) {
		failed = r.tell(e)
		m.wake()
		r.owner.wake()
	})
	r.deliver()
	for r.s.claims[r.part] {
		for r.core.Crowded() && failed == nil {
			m.wait(time.Millisecond)
		}
		if failed != nil {
			return failed
		}
		before := r.core.Cursor()
		if err := r.core.Turn(r.ctx); err != nil {
			return err
		}
		r.emit.wake()
		if r.core.Cursor() != before {
			r.tidyUp()
		}
		r.deliver()
		if !r.core.Waiting() {
			if d := r.core.Idle(); d > 0 {
				m.wait(time.Duration(float64(d)/(1+r.s.drift)) + time.Microsecond)
			}
		}
	}
	return nil
}

// tell is the emission of the reign.
func (r *reign) tell(e *task) error {
	k := r.s.k
	for {
		told, err := r.core.Emit(r.ctx)
		if err != nil {
			return err
		}
		if told {
			// The mark is not worth a message after each step.
			e.wait(k.between(0, 250*time.Millisecond))
			continue
		}
		switch {
		case r.core.Untold():
		case r.ended:
			return nil
		default:
			e.wait(time.Hour)
		}
	}
}

// tidyUp has the intake trimmed some time later.
func (r *reign) tidyUp() {
	if r.trim {
		return
	}
	r.trim = true
	scope := r.scope
	r.s.k.after(time.Second, func() {
		if r.trim = false; scope.dead || r.scope != scope {
			return
		}
		scope.spawn(func(*task) { r.core.Trim(r.ctx) })
	})
}

// deliver has the intake feed hand over what there is, a little later.
func (r *reign) deliver() {
	k := r.s.k
	if r.due || !r.serving || r.ended || r.pos >= r.s.w.intake.last {
		return
	}
	r.due = true
	scope := r.scope
	delay := k.between(10*time.Microsecond, 2*time.Millisecond)
	if k.chance(r.s.w.faults.Stall) {
		r.s.w.stats.Stalls++
		delay = k.between(100*time.Millisecond, 6*time.Second)
	}
	k.after(delay, func() { r.hand(scope) })
}

// hand hands messages over. A few come twice: the cursor knows them.
func (r *reign) hand(scope *scope) {
	w, k := r.s.w, r.s.k
	if scope.dead || r.scope != scope {
		return
	}
	if r.s.pausedUntil > k.now {
		r.s.later(func() { r.hand(scope) })
		return
	}
	r.due = false
	from := r.pos
	if k.chance(w.faults.Twice) && from > 0 {
		from--
		w.stats.Redelivered++
	}
	prefix := intakeFilter(r.part)
	found := w.intake.behind(prefix[:len(prefix)-1], from, 1+k.rng.IntN(32))
	if len(found) == 0 {
		r.pos = max(r.pos, w.intake.last)
		return
	}
	for _, m := range found {
		if !r.core.Offer(intakeMsg(m)) {
			break
		}
		r.pos = max(r.pos, m.seq)
	}
	r.main.wake()
	r.deliver()
}

func intakeMsg(m *message) bus.IntakeMsg {
	in := bus.IntakeMsg{Seq: m.seq, Data: m.data, Header: m.header, Time: began.Add(m.at)}
	var err error
	if _, in.Kind, in.Key, err = bus.ParseIntake(m.subject); err != nil {
		panic(err) // the model stores no other subjects
	}
	return in
}
