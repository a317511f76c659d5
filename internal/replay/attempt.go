package replay

import (
	"cmp"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

// Executor is who reports the results and heartbeats that the record does not
// have.
const Executor = "replay"

// attempt is one that is under way in the run.
type attempt struct {
	opID   string
	opType string
	target string
	number int
	at     time.Time  // of the grant
	lease  time.Time  // its end
	as     *precedent // whose outcome it has; nil: of none
	linked bool       // it began with its precedent and is told what that one is told, when it is told

	// Of one that is not linked:
	due  time.Time // its result; zero: never
	beat time.Time // its next heartbeat; zero: none
}

func (r *run) start(a *attempt) {
	r.attempts = append(r.attempts, a)
	r.byOp[a.opID] = a
}

// end forgets an attempt. An outcome counts once; one that did not come about is
// kept for the next attempt.
func (r *run) end(id string, how ending) {
	a := r.byOp[id]
	delete(r.byOp, id)
	r.attempts = slices.DeleteFunc(r.attempts, func(b *attempt) bool { return a == b })
	switch {
	case how == stopped:
		r.results.Stopped++
	case how == silent:
		r.results.Silent++
	case a.linked:
		r.results.Recorded++
	case a.as != nil:
		r.results.Moved++
	default:
		r.results.Assumed++
	}
	if a.as != nil && how != stopped {
		a.as.used = true
	}
}

// granted begins an attempt. It has the outcome that is next in the record, and
// is linked to that attempt if it began in the same step. One that the record
// took back has no outcome: the attempt is linked to it until then.
//
// Executors send heartbeats in time with the lease (ADR 0009). Where it is a
// shorter one, those of the record may come too late.
func (r *run) granted(g *arbiter.Granted, s *arbiter.Step) {
	a := &attempt{opID: g.OpID, opType: r.record.ledger.typeOf(g.OpID), target: g.Target, number: g.Attempt, at: s.At, lease: g.LeaseEnds}
	r.start(a)
	first, next := r.record.next(g.OpID)
	i, with := r.record.at(g.OpID, s.Number)
	switch {
	case with == nil, r.further > 0, next != nil && first < i, with.tells() && with != next:
		r.follow(a, s.At)
	case with.lease != g.LeaseEnds.Sub(s.At) && r.record.until(with).After(g.LeaseEnds):
		r.follow(a, r.record.until(with))
	default:
		a.as, a.linked = with, true
	}
}

// follow gives an attempt the outcome that is next in the record, or a success
// where there is none. It ends after the time that it took there, but not before
// an instant. Until then it is kept alive by heartbeats. An executor that fell
// silent after it had begun sends one.
func (r *run) follow(a *attempt, notBefore time.Time) {
	_, p := r.record.next(a.opID)
	a.as, a.linked = p, false
	switch {
	case p == nil:
		a.due = a.at.Add(r.record.typical(a.opID, a.opType))
	case p.end == reported:
		a.due = later(a.at.Add(p.took()), notBefore)
	case p.beaten:
		a.beat = a.at
	}
	if a.due.After(a.lease) {
		a.beat = a.lease
	}
}

// extended notes that a heartbeat was taken.
func (r *run) extended(e *arbiter.Extended) {
	a := r.byOp[e.OpID]
	a.lease, a.beat = e.LeaseEnds, time.Time{}
	if a.due.After(a.lease) {
		a.beat = a.lease
	}
}

// reports are the results and heartbeats that are due and not in the record, in
// the order of their instants.
func (r *run) reports(at time.Time) (in []arbiter.Input) {
	var due []*attempt
	for _, a := range r.attempts {
		if t := a.soonest(); !t.IsZero() && !t.After(at) {
			due = append(due, a)
		}
	}
	slices.SortStableFunc(due, func(a, b *attempt) int {
		return cmp.Or(a.soonest().Compare(b.soonest()), cmp.Compare(a.opID, b.opID))
	})
	for _, a := range due {
		if a.due.IsZero() || a.due.After(at) {
			in = append(in, arbiter.Input{Beat: &arbiter.Beat{OpID: a.opID, Target: a.target, Attempt: a.number, Executor: Executor}})
			continue
		}
		res := arbiter.Result{OpID: a.opID, Target: a.target, Attempt: a.number, Executor: Executor, Duration: a.due.Sub(a.at)}
		if a.as != nil {
			res.Failure = a.as.failure
		}
		in = append(in, arbiter.Input{Result: &res})
	}
	return in
}

// soonest is when the attempt is heard of next; zero: never.
func (a *attempt) soonest() time.Time {
	if a.due.IsZero() || !a.beat.IsZero() && a.beat.Before(a.due) {
		return a.beat
	}
	return a.due
}

// claim decides about a recorded result or heartbeat: under which number of the
// attempt it is an input of the run, or not at all. What the record refused is
// refused here, too, unless it comes from the very attempt that is still under
// way here. The failure of one that had been taken back is worth nothing: its
// executor may have been told to stop.
func (r *run) claim(id string, number int, s *step, refused, failure bool) (int, bool) {
	a := r.byOp[id]
	switch {
	case a != nil && a.linked && a.as.number == number:
		return a.number, !refused || !failure || a.as.endStep == s.Number
	case refused:
		return number, a == nil || a.number != number
	}
	return 0, false
}
