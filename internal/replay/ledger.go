package replay

import (
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// side is one of the two histories that are compared.
type side int

const (
	was   side = iota // the record
	would             // the replay
)

// ledger holds what became of each operation, and what was decided about each
// target, in both histories.
type ledger struct {
	byID    map[string]*life
	order   []*life // of acceptance, which is that of the log
	targets map[string]*rulings
	names   []string // of targets, in the order of their first decision
	sent    map[string]*arbiter.Submit
}

// life is one operation in both histories.
type life struct {
	id       string
	opType   string
	target   string
	place    op.Place
	priority op.Priority // as it was asked for
	accepted time.Time   // the same in both: they get the same inputs
	sides    [2]fate
}

// fate is what became of an operation.
type fate struct {
	Verdict
	promoted time.Time // for the first time; zero: never
}

// rulings are the decisions about one target, in their order.
type rulings [2][]Ruling

func newLedger() *ledger {
	return &ledger{byID: map[string]*life{}, targets: map[string]*rulings{}}
}

// submitted holds the submissions of a step ready for their acceptance.
func (l *ledger) submitted(s *arbiter.Step) {
	l.sent = map[string]*arbiter.Submit{}
	for i := range s.In {
		if in := s.In[i].Submit; in != nil && l.sent[in.Operation.ID] == nil {
			l.sent[in.Operation.ID] = in
		}
	}
}

// typeOf returns the type of an open operation.
func (l *ledger) typeOf(id string) string { return l.byID[id].opType }

// see takes the effects of a step of one side. Acceptances are taken from the
// record: the replay accepts the same.
func (l *ledger) see(which side, out []arbiter.Effect, at time.Time) {
	for i := range out {
		e := &out[i]
		if a := e.Accepted; a != nil && which == was {
			l.accept(l.sent[a.OpID], at)
		}
		if d := e.Decision; d != nil {
			l.decided(which, d)
		}
		id, v := verdictOf(e)
		if v.Status == "" {
			continue
		}
		f := &l.byID[id].sides[which]
		f.Verdict = v
		if v.Status == op.Executing && f.promoted.IsZero() {
			f.promoted = at
		}
	}
}

func (l *ledger) accept(s *arbiter.Submit, at time.Time) {
	o := &s.Operation
	v := &life{id: o.ID, opType: o.Type, target: o.Target, place: s.Place, priority: o.Priority, accepted: at}
	for i := range v.sides {
		v.sides[i].Status = op.Pending
	}
	l.byID[o.ID] = v
	l.order = append(l.order, v)
}

// verdictOf returns whom an effect gives another status, and which. One that only
// comes back to staging is PENDING again.
func verdictOf(e *arbiter.Effect) (id string, v Verdict) {
	switch {
	case e.Granted != nil:
		return e.Granted.OpID, Verdict{End: End{Status: op.Executing}}
	case e.Succeeded != nil:
		return e.Succeeded.OpID, Verdict{End: End{Status: op.Succeeded}}
	case e.Shared != nil:
		return e.Shared.OpID, Verdict{End: End{Status: op.Succeeded, Reason: op.Coalesced}, Winner: e.Shared.With}
	case e.Rejected != nil:
		return e.Rejected.OpID, Verdict{End: End{Status: op.Rejected, Reason: e.Rejected.Reason}, Winner: e.Rejected.Winner}
	case e.Cancelled != nil:
		return e.Cancelled.OpID, Verdict{End: End{Status: op.Cancelled, Reason: e.Cancelled.Reason}}
	case e.Retry != nil:
		return e.Retry.OpID, Verdict{End: End{Status: op.Pending}}
	case e.Preempted != nil:
		return e.Preempted.OpID, Verdict{End: End{Status: op.Pending, Reason: op.Preempted}}
	}
	return "", Verdict{}
}

func (l *ledger) decided(which side, d *op.Decision) {
	t := l.targets[d.Target]
	if t == nil {
		t = &rulings{}
		l.targets[d.Target] = t
		l.names = append(l.names, d.Target)
	}
	r := Ruling{At: d.At, Winner: d.Winner, Contenders: d.Total}
	for i := range d.Contenders {
		if c := &d.Contenders[i]; c.OpID != d.Winner {
			r.Losers = append(r.Losers, Loser{OpID: c.OpID, Verdict: c.Verdict})
		}
	}
	t[which] = append(t[which], r)
}

// forgetEnded drops what ended before the replay begins, and returns the ids. Up
// to here both sides are the same.
func (l *ledger) forgetEnded() (ended []string) {
	l.order = slices.DeleteFunc(l.order, func(v *life) bool {
		if v.sides[was].Status.Terminal() {
			ended = append(ended, v.id)
			delete(l.byID, v.id)
			return true
		}
		v.sides[would] = v.sides[was]
		return false
	})
	l.targets, l.names = map[string]*rulings{}, nil
	return ended
}

// compare fills the report. What the record leaves open is not compared: nobody
// knows its end.
func (l *ledger) compare(r *Report) {
	for _, v := range l.order {
		a, b := &v.sides[was], &v.sides[would]
		if !a.Status.Terminal() {
			r.Open++
			continue
		}
		r.Operations++
		r.count(a.End, b.End)
		r.waits = append(r.waits, waited{priority: v.priority, was: a.wait(v), would: b.wait(v)})
		if a.Verdict != b.Verdict {
			r.Changed = append(r.Changed, Change{
				OpID: v.id, OpType: v.opType, Target: v.target, Place: v.place, Priority: v.priority,
				Recorded: a.Verdict, Replayed: b.Verdict,
			})
		}
	}
	slices.Sort(l.names)
	for _, name := range l.names {
		t := l.targets[name]
		for i := range t {
			t[i] = slices.DeleteFunc(t[i], l.undone)
		}
		t.compare(name, r)
	}
}

// undone reports whether a decision is only about operations that the record
// leaves open. The record may end before it.
func (l *ledger) undone(d Ruling) bool {
	ended := func(id string) bool { return l.byID[id].sides[was].Status.Terminal() }
	return !ended(d.Winner) && !slices.ContainsFunc(d.Losers, func(c Loser) bool { return ended(c.OpID) })
}

// notPromoted is the wait of an operation that was never promoted.
const notPromoted = time.Duration(-1)

func (f *fate) wait(v *life) time.Duration {
	if f.promoted.IsZero() {
		return notPromoted
	}
	return f.promoted.Sub(v.accepted)
}

func (t *rulings) compare(target string, r *Report) {
	a, b := t[was], t[would]
	r.Decisions.Recorded += len(a)
	r.Decisions.Replayed += len(b)
	for n := range max(len(a), len(b)) {
		d := Decided{Target: target, N: n + 1}
		if n < len(a) {
			d.Recorded = &a[n]
		}
		if n < len(b) {
			d.Replayed = &b[n]
		}
		if d.differs() {
			r.Decisions.Changed = append(r.Decisions.Changed, d)
		}
	}
}
