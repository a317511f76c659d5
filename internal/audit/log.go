package audit

import (
	"fmt"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// visit is the pass over one step.
type visit struct {
	a   *Auditor
	p   *partition
	s   *arbiter.Step
	seq uint64

	applied  int    // inputs whose knowledge (policy, ancestors, cancels of many) is in force
	cursor   int    // inputs before it were all answered
	answered []bool // by input
	limit    int    // the largest maximum of a staging area that was in force
	settled  bool   // everything due at the step's instant came back to staging
	rulings  map[string]*ruling
	decided  []*ruling
	undone   []*operation // have to be elsewhere at the end of the step
	touched  []*target
	index    int            // of the effect that is checked
	size     int            // bytes of the effects before it
	deciding bool           // the step has come to its decisions
	freed    bool           // and one of them ended an execution
	latest   *operation     // accepted last
	newcomer *operation     // the same, if others had missed it as their ancestor
	arriving *operation     // the same, while it is not staged
	replaces []*operation   // what it supersedes
	change   *entity.Change // of the effect that is checked, if it can be read
}

func (v *visit) bad(invariant, opID, format string, args ...any) {
	v.a.violate(Violation{
		Seq: v.seq, Invariant: invariant, Partition: v.p.id, Step: v.s.Number, OpID: opID,
		Text: fmt.Sprintf(format, args...),
	})
}

// chain checks that the step follows from the one before it.
func (v *visit) chain() {
	p, s := v.p, v.s
	if s.Number != p.step+1 {
		v.bad(LogChain, "", "step %d follows step %d", s.Number, p.step)
	}
	switch {
	case s.Epoch < p.epoch:
		v.bad(LogEpoch, "", "epoch %d after epoch %d", s.Epoch, p.epoch)
	case s.Epoch > p.epoch+1:
		v.bad(LogEpoch, "", "epoch %d right after epoch %d", s.Epoch, p.epoch)
	case s.Epoch > p.epoch && !s.Takeover:
		v.bad(LogEpoch, "", "epoch %d begins without a take-over", s.Epoch)
	case s.Epoch == p.epoch && s.Takeover:
		v.bad(LogEpoch, "", "a take-over that stays in epoch %d", s.Epoch)
	}
	if s.Takeover {
		v.a.report.Takeovers++
		if len(s.In)+len(s.Out) > 0 {
			v.bad(LogTakeover, "", "a take-over with %d inputs and %d effects", len(s.In), len(s.Out))
		}
	}
	switch {
	case s.Owner == "":
		v.bad(LogOwner, "", "the step has no owner")
	case s.Epoch == p.epoch && s.Owner != p.owner:
		v.bad(LogOwner, "", "epoch %d belongs to %s, this step to %s", s.Epoch, p.owner, s.Owner)
	}
	if s.At.Before(p.at) {
		v.bad(LogTime, "", "%s is before %s", s.At.Format(timeFormat), p.at.Format(timeFormat))
	}
	if s.Cursor < p.cursor {
		v.bad(LogCursor, "", "cursor %d after cursor %d", s.Cursor, p.cursor)
	}
	v.stepID()
}

func (v *visit) stepID() {
	most := recentSteps
	if v.a.opts.Bounds.Operations > 0 {
		most = boundedSteps
	}
	if v.s.ID == "" || !v.a.stepIDs.add(keyOf(v.s.ID), struct{}{}, most) {
		v.bad(LogStepID, "", "id %q is empty or was used before", v.s.ID)
	}
}

// inputs checks what the step consumed.
func (v *visit) inputs() {
	for _, t := range v.p.left {
		v.touch(t)
	}
	v.p.left = v.p.left[:0]
	v.answered, v.limit = make([]bool, len(v.s.In)), v.p.policy.MaxStaged
	for i := range v.s.In {
		in := &v.s.In[i]
		if n := inputFields(in); n != 1 {
			v.bad(LogShape, "", "input %d says %d things", i, n)
		}
		switch {
		case in.Submit != nil:
			v.intake(in.Submit.Place, in.Submit.Operation.ID)
			v.misplaced(&in.Submit.Operation)
		case in.Invalid != nil:
			v.a.report.Invalid++
			if v.a.opts.Clients && in.Invalid.OpID != "" {
				v.a.invalid[keyOf(in.Invalid.OpID)] = struct{}{}
			}
			v.intake(in.Invalid.Place, in.Invalid.OpID)
		case in.Cancel != nil:
			c := in.Cancel
			if n := count(c.OpID != "", c.All, c.Submitter != "", len(c.Ancestors) > 0); n != 1 {
				v.bad(LogShape, c.OpID, "input %d, a cancel, names %d things", i, n)
			}
			v.intake(c.Place, c.OpID)
		}
	}
}

// intake checks the place of one intake message.
func (v *visit) intake(place op.Place, opID string) {
	if place.Seq <= v.p.cursor || place.Seq > v.s.Cursor {
		v.bad(LogCursor, opID, "consumes intake sequence %d between the cursors %d and %d", place.Seq, v.p.cursor, v.s.Cursor)
	} else if !v.p.place.Before(place) {
		v.bad(LogOrder, opID, "consumes place %d.%d after %d.%d", place.Seq, place.Index, v.p.place.Seq, v.p.place.Index)
	}
	v.p.place = place
	v.p.taken.set(place.Seq)
}

func (v *visit) misplaced(o *op.Operation) {
	if v.a.opts.PartitionOf == nil {
		return
	}
	if want := v.a.opts.PartitionOf(o.Target); want != v.p.id {
		v.bad(LogMisplaced, o.ID, "target %s hashes to partition %d", o.Target, want)
	}
}

// answerable reports whether an input must have an effect of its own in its step.
// What a cancel of many comes to may be nothing, and may be told later.
func answerable(in *arbiter.Input) bool {
	return in.Submit != nil || in.Result != nil || in.Beat != nil || in.Cancel != nil && in.Cancel.OpID != ""
}

// claim finds the input that an effect answers and makes everything before it
// known. It returns nil when no input that is still unanswered fits. Effects
// follow the order of the inputs, so the first candidate is nearly always it.
func (v *visit) claim(fits func(in *arbiter.Input) bool) *arbiter.Input {
	for v.cursor < len(v.s.In) && (v.answered[v.cursor] || !answerable(&v.s.In[v.cursor])) {
		v.cursor++
	}
	for i := v.cursor; i < len(v.s.In); i++ {
		if in := &v.s.In[i]; !v.answered[i] && answerable(in) && fits(in) {
			v.answered[i] = true
			v.advance(i)
			v.consume(in)
			return in
		}
	}
	return nil
}

// advance puts the knowledge of the inputs before the given one in force.
func (v *visit) advance(to int) {
	for v.applied < to {
		in := &v.s.In[v.applied]
		v.applied++
		v.consume(in)
		switch {
		case in.Policy != nil:
			v.adopt(in.Policy)
		case in.Kin != nil:
			v.learn(in.Kin)
		case in.Cancel != nil:
			v.ask(in.Cancel)
		}
	}
}

// consume notes how far the intake is applied.
func (v *visit) consume(in *arbiter.Input) {
	switch {
	case in.Submit != nil:
		v.p.consumed = max(v.p.consumed, in.Submit.Place.Seq)
	case in.Cancel != nil:
		v.p.consumed = max(v.p.consumed, in.Cancel.Place.Seq)
	}
}

// adopt puts a policy into force. Staging areas are looked at again, and operations
// whose type is registered no longer have to go.
func (v *visit) adopt(p *arbiter.Policy) {
	v.p.policy = *p
	v.limit = max(v.limit, p.MaxStaged)
	for _, o := range v.p.byPlace() {
		if o.status == op.Pending && !o.followUp() && !knows(p, o.kind) {
			v.doom(o, doom{kind: doomUnknown})
		}
		if t := o.target; o.slot >= 0 && (t.executing != nil || !t.unsure && !t.closes.After(v.s.At)) {
			v.stir(t)
		}
	}
}

// settle moves on to the end of the step: all inputs are in force, and every
// operation whose backoff is over is staged again. What a step decides, it
// decides after that.
func (v *visit) settle() {
	v.advance(len(v.s.In))
	if v.settled {
		return
	}
	v.settled = true
	for {
		x, ok := v.p.backoffs.next(v.s.At)
		if !ok {
			return
		}
		if x.o.over(v.s.At) {
			continue
		}
		v.restage(x.o)
		// It came back in this step, or in one before that was cut short.
		t := x.o.target
		t.unsure = t.unsure || v.p.short && !x.at.After(v.p.at)
	}
}

// decides notes that the step has come to its decisions. What was due before them
// was done if there was room for it.
func (v *visit) decides() {
	if v.size < arbiter.MaxEffectBytes {
		v.settle()
	}
	v.deciding = true
}

// short reports whether the step may have left behind what was due, which a step
// does when it is full.
func (v *visit) short() bool { return v.s.Takeover || v.size >= arbiter.MaxEffectBytes }

// close checks what has to be true at the end of a step.
func (v *visit) close() {
	p, s := v.p, v.s
	v.arrive()
	v.advance(len(s.In))
	short := v.short()
	if !short {
		v.settle()
	}
	for i := range s.In {
		if !v.answered[i] && answerable(&s.In[i]) {
			v.bad(LogUnanswered, inputOp(&s.In[i]), "input %d has no effect", i)
		}
	}
	for _, r := range v.decided {
		v.carriedOut(r)
	}
	v.unfinished()
	v.dues(short)
	if !short {
		v.overdue()
	}
	crowded := !short && v.crowded()
	for _, t := range v.touched {
		v.bound(t)
		if !short && t.stirred {
			v.contested(t)
		}
		if t.touched, t.stirred, t.doubtful = false, false, false; short || v.undecided(t, crowded) {
			p.left = append(p.left, t)
		}
	}
	p.step, p.epoch, p.owner, p.at, p.cursor, p.short = s.Number, s.Epoch, s.Owner, s.At, s.Cursor, short
}

// unfinished looks for operations with which something began that has to end in
// the same step.
func (v *visit) unfinished() {
	for _, o := range v.undone {
		switch {
		case o.status.Terminal():
		case o.turned == op.Superseded:
			v.bad(LifeSuperseded, o.id, "a newer one of its kind was accepted, and it is still %s", o.status)
		case o.turned != "":
			v.bad(LifeAdmitted, o.id, "is to be turned away as %s, and is %s", o.turned, o.status)
		case o.stop != nil && o.status != op.Executing:
			v.bad(LifeCancelLost, o.id, "a cancel waited for the end of attempt %d, and it goes on", o.attempt)
		case o.status == op.Failed || o.adrift():
			v.bad(LifeUndone, o.id, "is %s and neither staged nor ended", o.status)
		}
	}
}

// overdue looks at everything whose instant has come.
func (v *visit) overdue() {
	for {
		x, ok := v.p.alarms.next(v.s.At)
		if !ok {
			return
		}
		switch {
		case x.kind == alarmWindow:
			v.touch(x.t)
		case x.kind == alarmContest:
			v.stir(x.o.target)
		case x.kind == alarmLease:
			v.bad(LifeOverdue, x.o.id, "the lease of attempt %d ended at %s", x.attempt, x.at.Format(timeFormat))
		case x.kind == alarmStop:
			v.bad(LifeCancelLost, x.o.id, "a cancel waited until %s, and attempt %d goes on", x.at.Format(timeFormat), x.attempt)
		case x.kind == alarmExpiry && x.o.status == op.Pending:
			v.bad(LifeOverdue, x.o.id, "expired at %s and is still pending", x.at.Format(timeFormat))
		}
	}
}

func inputFields(in *arbiter.Input) int {
	return count(in.Submit != nil, in.Invalid != nil, in.Cancel != nil, in.Result != nil, in.Beat != nil, in.Kin != nil, in.Policy != nil)
}

func inputOp(in *arbiter.Input) string {
	switch {
	case in.Submit != nil:
		return in.Submit.Operation.ID
	case in.Result != nil:
		return in.Result.OpID
	case in.Beat != nil:
		return in.Beat.OpID
	case in.Cancel != nil:
		return in.Cancel.OpID
	}
	return ""
}

func count(set ...bool) int {
	n := 0
	for _, b := range set {
		if b {
			n++
		}
	}
	return n
}
