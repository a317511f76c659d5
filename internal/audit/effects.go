package audit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func resultOf(opID string, attempt int) func(in *arbiter.Input) bool {
	return func(in *arbiter.Input) bool {
		return in.Result != nil && in.Result.OpID == opID && in.Result.Attempt == attempt
	}
}

// named returns the input of the given index and marks it as answered; nil when
// there is none or when it was answered before.
func (v *visit) named(index int) *arbiter.Input {
	if index < 0 || index >= len(v.s.In) || v.answered[index] {
		return nil
	}
	v.answered[index] = true
	v.advance(index)
	v.consume(&v.s.In[index])
	return &v.s.In[index]
}

func (v *visit) succeeded(e *arbiter.Succeeded) {
	in := v.named(e.Input)
	v.a.terminal++
	o := v.subject(e.OpID, e.Target, "Succeeded")
	if o == nil {
		return
	}
	var change json.RawMessage
	switch {
	case in == nil || !resultOf(e.OpID, e.Attempt)(in):
		v.bad(EffectsNoResult, e.OpID, "input %d is not the result of attempt %d", e.Input, e.Attempt)
	case in.Result.Failure != nil:
		v.bad(EffectsNoResult, e.OpID, "attempt %d succeeded, its result is a failure", e.Attempt)
	case len(in.Result.Change) == 0:
		v.bad(EffectsNoResult, e.OpID, "attempt %d succeeded, its result has no change", e.Attempt)
	default:
		change = in.Result.Change
	}
	v.runs(o, e.Attempt, "succeeded")
	o.status = op.Succeeded
	if change != nil {
		v.fold(o, change)
	} else {
		o.target.tainted = true
	}
	v.a.report.Succeeded++
	v.release(o)
	v.finish(o, &end{riders: doom{kind: doomShare, attempt: e.Attempt}})
}

// refused checks that only what is out of date is refused, and a cancel only where
// there is nothing to cancel.
func (v *visit) refused(e *arbiter.Refused) {
	v.a.report.Refused++
	in := v.named(e.Input)
	if in == nil || !answerable(in) || in.Submit != nil || inputOp(in) != e.OpID {
		v.bad(LifeUnasked, e.OpID, "refused, but input %d is neither a result, a heartbeat nor a cancel of it", e.Input)
		return
	}
	o := v.p.open[keyOf(e.OpID)]
	if in.Cancel != nil {
		if o != nil && o.target.id == in.Cancel.Target && !o.followUp() {
			v.bad(LifeCancelLost, e.OpID, "the cancel of an operation that is %s was refused: %s", o.status, e.Why)
		}
		return
	}
	if o != nil && o.status == op.Executing && (resultOf(e.OpID, o.attempt)(in) || beatOf(e.OpID, o.attempt, in)) {
		v.bad(EffectsRefusedCurrent, e.OpID, "the result or the heartbeat of attempt %d was refused: %s", o.attempt, e.Why)
	}
}

// fold applies a change to the entity and checks the chain.
func (v *visit) fold(o *operation, data json.RawMessage) {
	t := o.target
	var c entity.Change
	if err := json.Unmarshal(data, &c); err != nil {
		v.bad(EffectsUndecodable, o.id, "target %s: %v", t.id, err)
		t.tainted = true
		return
	}
	v.change = &c
	v.expect(o, &c)
	if t.tainted || v.unknown(t, &c) {
		return
	}
	v.p.keep(t)
	var revision, version uint64
	if t.head != nil {
		revision, version = t.head.Revision, t.head.Version
	}
	// To expect 0 is to expect that there is nothing, be it that it was deleted.
	nothing := o.expected != nil && *o.expected == 0 && (t.head == nil || t.head.Deleted)
	if o.expected != nil && !nothing && *o.expected != int64(version) {
		v.bad(EffectsStale, o.id, "target %s: version %d was expected, a change of version %d succeeded", t.id, *o.expected, version)
	}
	switch {
	case c.Base != revision:
		v.bad(EffectsBase, o.id, "target %s: a change for revision %d meets revision %d", t.id, c.Base, revision)
		t.tainted = true
		return
	case c.From != version:
		v.bad(EffectsVersion, o.id, "target %s: a change for version %d meets version %d", t.id, c.From, version)
		t.tainted = true
		return
	}
	after, err := entity.Apply(t.head, &c, o.id, v.s.At)
	if err != nil {
		v.bad(EffectsFold, o.id, "target %s: %v", t.id, err)
		t.tainted = true
		return
	}
	v.borrowed(o, &c)
	v.successor(o, &c, t.head, after)
	v.a.report.Effects++
	if t.head == nil {
		v.p.entities++
	}
	t.head = after
	t.note(&c)
}

// successor checks the revision and the version that a change led to.
func (v *visit) successor(o *operation, c *entity.Change, before, after *entity.Entity) {
	if before == nil {
		before = &entity.Entity{}
	}
	if after.Revision != before.Revision+1 || after.LastOpID != o.id || after.ID != o.target.id {
		v.bad(EffectsRevision, o.id, "entity %s at revision %d, last changed by %s, follows revision %d", after.ID, after.Revision, after.LastOpID, before.Revision)
	}
	want := before.Version
	if c.Version || c.Kind == entity.Created {
		want++
	}
	switch moved := after.VersionID != before.VersionID; {
	case after.Version != want:
		v.bad(EffectsVersion, o.id, "entity %s: version %d after version %d, not %d", after.ID, after.Version, before.Version, want)
	case moved != (want != before.Version):
		v.bad(EffectsVersion, o.id, "entity %s: version %d has id %s, version %d had %s", after.ID, after.Version, after.VersionID, before.Version, before.VersionID)
	case moved && after.PreviousVersionID != before.VersionID:
		v.bad(EffectsVersion, o.id, "entity %s: version %d follows %s, not %s", after.ID, after.Version, after.PreviousVersionID, before.VersionID)
	}
}

// note remembers which revision set which field.
func (t *target) note(c *entity.Change) {
	if t.since == nil && len(c.Set) > 0 {
		t.since = map[string]uint64{}
	}
	for _, f := range slices.Sorted(maps.Keys(c.Set)) {
		t.since[f] = t.head.Revision
	}
}

// borrowed checks that a borrowed value was the source's value at the revision
// named. Where the source was changed again since, the value is gone and the
// check is left out.
func (v *visit) borrowed(o *operation, c *entity.Change) {
	for _, f := range slices.Sorted(maps.Keys(c.Source)) {
		s := c.Source[f]
		if s == nil {
			continue
		}
		t := v.a.entity(s.EntityID)
		if t != nil && t.tainted || t == nil && v.a.abandoned() {
			continue
		}
		if t == nil || t.head == nil || t.head.Revision < s.Revision {
			v.bad(EffectsBorrow, o.id, "field %s comes from revision %d of %s, which nothing led to", f, s.Revision, s.EntityID)
			continue
		}
		value, ok := t.head.Fields[s.Field]
		since := t.since[s.Field]
		if since > s.Revision || !ok && since > 0 || !entity.FieldName(s.Field) {
			continue
		}
		if since == 0 || !sameJSON(value, c.Set[f]) {
			v.bad(EffectsBorrow, o.id, "field %s is %.80s, field %s of %s was %.80s at revision %d", f, c.Set[f], s.Field, s.EntityID, value, s.Revision)
		}
	}
}

// entity returns the target of an id in whichever partition holds its entity.
func (a *Auditor) entity(id string) *target {
	for _, p := range a.order {
		if t := p.targets[id]; t != nil && (t.head != nil || t.tainted) {
			return t
		}
	}
	return nil
}

func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// expected is a follow-up that a change asked for and nobody submitted yet.
type expected struct {
	v       Violation
	n       int
	foreign bool // of an operation of somebody else
}

func followKey(cause, target string) key { return keyOf(cause + "\x00" + target) }

// expect notes the follow-ups that a change asks for.
func (v *visit) expect(o *operation, c *entity.Change) {
	for i := range c.Follow {
		k := followKey(o.id, c.Follow[i].Target)
		if v.a.follows[k] == nil {
			v.a.follows[k] = &expected{foreign: o.foreign, v: Violation{
				Seq: v.seq, Invariant: CausesFollowUp, Partition: v.p.id, Step: v.s.Number, OpID: o.id,
				Text: "asked for a follow-up on " + c.Follow[i].Target + " that nobody submitted",
			}}
		}
		v.a.follows[k].n++
		v.a.promise(o.foreign, 1)
	}
}

// caused checks the cause of an accepted operation. It belongs to whom its cause
// belongs to.
func (v *visit) caused(o *operation, s *arbiter.Submit) {
	if (s.CausedBy != "") != (s.Operation.Type == op.TypeFollowUp) {
		v.bad(CausesType, s.Operation.ID, "type %s, caused by %q", s.Operation.Type, s.CausedBy)
		return
	}
	if s.CausedBy == "" {
		return
	}
	k := followKey(s.CausedBy, s.Operation.Target)
	x := v.a.follows[k]
	if x == nil {
		v.bad(CausesMissing, s.Operation.ID, "%s did not succeed before with a follow-up on %s", s.CausedBy, s.Operation.Target)
		return
	}
	v.p.belongs(o, x.foreign)
	v.a.promise(x.foreign, -1)
	if x.n--; x.n == 0 {
		delete(v.a.follows, k)
	}
}

// followUps reports the follow-ups that were never submitted.
func (a *Auditor) followUps() {
	left := slices.SortedFunc(maps.Values(a.follows), func(x, y *expected) int {
		return cmp.Or(cmp.Compare(x.v.Seq, y.v.Seq), cmp.Compare(x.v.Text, y.v.Text))
	})
	for _, x := range left {
		if x.foreign {
			continue
		}
		x.v.Text += fmt.Sprintf(" (%d missing)", x.n)
		a.violate(x.v)
	}
}
