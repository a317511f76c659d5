package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Heads returns the ids of the entities that the history leads to, sorted, so
// that a caller can find the ones that a view lacks.
func (a *Auditor) Heads() iter.Seq[string] {
	var ids []string
	for _, p := range a.order {
		for _, id := range slices.Sorted(maps.Keys(p.targets)) {
			if p.targets[id].head != nil {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Values(slices.Compact(ids))
}

// CheckHead compares the view of one entity with what its history folds to. An
// empty head says that the view has none. Call it after the last step; a view
// that is still catching up differs.
func (a *Auditor) CheckHead(id string, head []byte) {
	t := a.entity(id)
	if t != nil && t.tainted {
		return // its history does not fold, which was reported
	}
	bad := func(format string, args ...any) {
		a.violate(Violation{Invariant: ViewsHead, Partition: a.home(id), Text: "entity " + id + ": " + fmt.Sprintf(format, args...)})
	}
	switch {
	case t == nil && len(head) == 0:
		return
	case t == nil:
		bad("the view has it, the history has not")
		return
	case len(head) == 0:
		bad("the view lacks it, the history leads to revision %d", t.head.Revision)
		return
	}
	var e entity.Entity
	if err := json.Unmarshal(head, &e); err != nil {
		bad("%v", err)
		return
	}
	if field, got, want := difference(&e, t.head); field != "" {
		bad("%s is %.120s, the history leads to %.120s", field, got, want)
	}
}

// home returns the partition that holds an entity, or -1.
func (a *Auditor) home(id string) int {
	for _, p := range a.order {
		if p.targets[id] != nil {
			return p.id
		}
	}
	return -1
}

// difference returns the first field in which two entities differ.
func difference(got, want *entity.Entity) (field string, g, w json.RawMessage) {
	x, y := fields(got), fields(want)
	all := maps.Clone(x)
	maps.Copy(all, y)
	for _, f := range slices.Sorted(maps.Keys(all)) {
		if !bytes.Equal(x[f], y[f]) {
			return f, x[f], y[f]
		}
	}
	return "", nil, nil
}

func fields(e *entity.Entity) map[string]json.RawMessage {
	m := map[string]json.RawMessage{}
	b, err := json.Marshal(e)
	if err != nil {
		return map[string]json.RawMessage{"unreadable": json.RawMessage(err.Error())}
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return map[string]json.RawMessage{"unreadable": json.RawMessage(err.Error())}
	}
	return m
}

// CheckRecord compares the record of one operation with its history. A nil
// record says that the view has none. Call it after the last step. Records age
// out, so a caller asks for the ones that it expects.
func (a *Auditor) CheckRecord(opID string, rec *op.Record) {
	k := keyOf(opID)
	bad := func(p *partition, format string, args ...any) {
		a.violate(Violation{Invariant: ViewsRecord, Partition: p.id, OpID: opID, Text: fmt.Sprintf(format, args...)})
	}
	for _, p := range a.order {
		o, d := p.open[k], p.done[k]
		if _, ended := p.done[k]; o == nil && !ended || rec != nil && rec.Partition != p.id {
			continue
		}
		want := told{
			status: d.became(), reason: d.why(), winner: d.winner, attempt: int(d.attempts), retries: int(d.retries),
			preemptions: int(d.preemptions), priority: op.Priority(d.priority), asked: op.Priority(d.asked),
			retryOf: d.retryOf, failure: d.failure, retryAfter: int64(d.retryAfter),
		}
		if o != nil {
			want = toldOfOpen(o)
		}
		if rec == nil {
			bad(p, "the view lacks it, the history says %s", want.status)
			return
		}
		got := told{
			status: rec.Status, reason: rec.Reason, winner: keyOf(rec.Winner).long(), attempt: rec.Attempt, retries: rec.RetryCount,
			preemptions: rec.Preemptions, priority: rec.Priority, asked: rec.Asked,
			retryOf: keyOf(rec.RetryOf).short(), failure: errorOf(rec.Error), retryAfter: rec.RetryAfterMS, cancelAt: instant(rec.CancelAt), retryAt: instant(rec.RetryAt),
		}
		if o != nil && o.reason == "" {
			got.reason = "" // a hint about what it waits for, nothing the history settles
		}
		if o != nil && o.slot >= 0 {
			got.retryAt = 0 // it came back, which is no reason to tell
		}
		if got != want {
			bad(p, "the view says %s, the history says %s", &got, &want)
		}
		return
	}
	if rec != nil {
		a.violate(Violation{Invariant: ViewsRecord, Partition: rec.Partition, OpID: opID, Text: "the view has it, the history has not"})
	}
}

// told is what a record says that the history settles.
type told struct {
	status      op.Status
	reason      op.Reason
	winner      uint64
	attempt     int
	retries     int
	preemptions int
	priority    op.Priority
	asked       op.Priority
	retryOf     uint32
	failure     uint32
	retryAfter  int64 // milliseconds
	cancelAt    int64 // nanoseconds since 1970; 0: never
	retryAt     int64
}

// toldOfOpen is what the record of an open operation has to say.
func toldOfOpen(o *operation) told {
	t := told{
		status: o.status, reason: o.reason, winner: keyOf(o.winner).long(), attempt: o.attempt, retries: o.retries,
		preemptions: o.preemptions, priority: o.priority, asked: o.asked, retryOf: o.retryOf,
		failure: errorOf(o.failure),
	}
	if o.status == op.Executing && o.stop != nil {
		t.cancelAt = o.stop.at.UnixNano()
	}
	if o.waiting {
		t.retryAt = o.due.UnixNano()
	}
	return t
}

func instant(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.UnixNano()
}

func (t *told) String() string {
	return fmt.Sprintf("%s %q, priority %d (asked %d), attempt %d, %d retries (next at %d, again after %d ms), %d preemptions, cancelled at %d, winner %x, retry of %x, error %x",
		t.status, t.reason, t.priority, t.asked, t.attempt, t.retries, t.retryAt, t.retryAfter, t.preemptions, t.cancelAt, t.winner, t.retryOf, t.failure)
}
