package replay

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// run is the history that would have been.
type run struct {
	machine   *arbiter.Machine
	record    *record // read to its end before the run begins
	directory *Directory
	policy    func(recorded arbiter.Policy) arbiter.Policy
	applied   bool // the policy is in force

	attempts []*attempt          // under way, in the order of their grants
	byOp     map[string]*attempt // the same

	theirs []question // of the record, not answered there yet
	ours   []question

	last    *step // recorded; nil: none yet
	further int   // steps since then that the record has not
	results Results
	watch   func(s *arbiter.Step) // told each step; for tests
}

// newRun goes on from where the record is now; what it reads from now on is the
// run's future.
func newRun(m *arbiter.Machine, r *record, policy func(arbiter.Policy) arbiter.Policy, d *Directory) *run {
	run := &run{
		machine: m, record: r, directory: d, policy: policy, byOp: map[string]*attempt{},
		theirs: slices.Clone(r.asked), ours: slices.Clone(r.asked), watch: func(*arbiter.Step) {},
	}
	for _, v := range r.ledger.order {
		if all := r.past[v.id]; len(all) > 0 && all[len(all)-1].end == open {
			p := all[len(all)-1]
			run.start(&attempt{opID: v.id, opType: v.opType, target: v.target, number: p.number, at: p.at, lease: p.at.Add(p.lease), as: p, linked: true})
		}
	}
	return run
}

// play takes one recorded step, after what comes before it.
func (r *run) play(s *step) {
	if r.last != nil {
		r.between(s.At)
	}
	r.record.pass(s)
	now := s.Step
	now.In = nil
	r.last, r.further = s, 0
	if !s.Takeover {
		now.In = r.inputs(s)
	}
	r.step(&now)
	r.theirs = append(answered(r.theirs, s.In), questions(s.asked, s.Cursor)...)
	for _, p := range s.ended {
		// The record took it back, and nobody knows how it would have ended.
		if a := r.byOp[p.opID]; a != nil && a.linked && a.as == p && p.end == stopped && !p.late {
			r.follow(a, s.At)
		}
	}
	for !s.backlog && r.machine.Backlog() {
		r.extra(s.At)
	}
}

// between plays what happens by itself before the next recorded step. The record
// had something due then, too, or it had not. If it had, it shows when the
// resolver came to it, which may have been late, or dead; if not, the resolver
// was waiting, and would have been punctual.
func (r *run) between(end time.Time) {
	if due := r.last.due; !due.IsZero() && due.Before(end) {
		end = due
	}
	for {
		at, ok := r.next()
		if !ok || !at.Before(end) {
			return
		}
		r.extra(at)
	}
}

// goOn plays what comes after the record, until nothing is under way.
func (r *run) goOn() {
	for _, a := range r.attempts {
		if a.linked && a.as.end == open {
			r.follow(a, r.last.At)
		}
	}
	r.theirs = nil
	for {
		at, ok := r.next()
		if !ok {
			return
		}
		r.extra(at)
	}
}

// next returns the earliest instant at which anything would happen by itself.
func (r *run) next() (time.Time, bool) {
	at, ok := r.machine.Next()
	sooner := func(t time.Time) {
		if !t.IsZero() && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	for _, a := range r.attempts {
		sooner(a.soonest())
	}
	if slices.ContainsFunc(r.ours, r.unanswered) {
		sooner(r.machine.At())
	}
	return later(at, r.machine.At()), ok
}

// extra is a step that the record does not have. What was left over from the one
// before is told first, and alone.
func (r *run) extra(at time.Time) {
	r.further++
	s := r.last.Step
	s.ID += "+" + strconv.Itoa(r.further)
	s.Takeover, s.At, s.In = false, at, nil
	if !r.machine.Backlog() {
		s.In = r.due(at)
	}
	r.step(&s)
}

// step lets the machine take a step and follows what became of the attempts.
func (r *run) step(s *arbiter.Step) {
	r.machine.Step(s)
	r.watch(s)
	r.record.ledger.see(would, s.Out, s.At)
	r.ours = append(answered(r.ours, s.In), questions(r.machine.Wants(), s.Cursor)...)
	for i := range s.Out {
		switch e := &s.Out[i]; {
		case e.Granted != nil:
			r.granted(e.Granted, s)
		case e.Extended != nil:
			r.extended(e.Extended)
		case e.Succeeded != nil:
			r.end(e.Succeeded.OpID, reported)
		case e.Failed != nil:
			r.end(e.Failed.OpID, reported)
		case e.Lapsed != nil:
			r.end(e.Lapsed.OpID, silent)
		case e.Preempted != nil:
			r.end(e.Preempted.OpID, stopped)
		case e.Cancelled != nil && e.Cancelled.From == op.Executing:
			r.end(e.Cancelled.OpID, stopped)
		}
	}
}

// inputs are those of a recorded step, and before them what is due.
func (r *run) inputs(s *step) (in []arbiter.Input) {
	if !r.machine.Backlog() {
		in = r.enforce()
		in = append(in, r.due(s.At)...)
	}
	for i := range s.In {
		refused := slices.Contains(s.refused, i)
		switch one := s.In[i]; {
		case one.Policy != nil:
			p := r.policy(*one.Policy)
			in = append(in, arbiter.Input{Policy: &p})
		case one.Result != nil:
			if n, ok := r.claim(one.Result.OpID, one.Result.Attempt, s, refused, one.Result.Failure != nil); ok {
				again := *one.Result
				again.Attempt = n
				in = append(in, arbiter.Input{Result: &again})
			}
		case one.Beat != nil:
			if n, ok := r.claim(one.Beat.OpID, one.Beat.Attempt, s, refused, false); ok {
				again := *one.Beat
				again.Attempt = n
				in = append(in, arbiter.Input{Beat: &again})
			}
		default:
			in = append(in, one)
		}
	}
	return in
}

// enforce puts the policy into force, once.
func (r *run) enforce() []arbiter.Input {
	if r.applied {
		return nil
	}
	r.applied = true
	recorded := r.machine.Policy()
	p := r.policy(recorded)
	if same(&recorded, &p) {
		return nil
	}
	return []arbiter.Input{{Policy: &p}}
}

func same(a, b *arbiter.Policy) bool {
	x, errX := op.Marshal(a)
	y, errY := op.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// due are the inputs that the record does not have at this instant: answers,
// results and heartbeats.
func (r *run) due(at time.Time) (in []arbiter.Input) {
	for _, q := range r.ours {
		if r.unanswered(q) {
			in = append(in, r.directory.answer(q))
		}
	}
	return append(in, r.reports(at)...)
}

// unanswered reports whether no search of the record answers q.
func (r *run) unanswered(q question) bool {
	return !slices.ContainsFunc(r.theirs, func(t question) bool { return t.id == q.id && t.upto >= q.upto })
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
