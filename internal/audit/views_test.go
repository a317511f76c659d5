package audit_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// head is the entity that the story leads to, as a view would hold it: with the
// place in the journal in front.
func head(t *testing.T, change func(e *entity.Entity)) []byte {
	t.Helper()
	e, err := entity.Apply(nil, created("e3"), "x", at(30320))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(e)
	}
	b, err := json.Marshal(struct {
		Partition  int    `json:"partition"`
		Step       uint64 `json:"step"`
		JournalSeq uint64 `json:"journal_seq"`
		*entity.Entity
	}{0, 18, 22, e})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHeadsAreComparedWithTheHistory(t *testing.T) {
	for _, c := range []struct {
		name, id string
		head     []byte
		want     []string
	}{
		{"equal", "e3", head(t, nil), nil},
		{"another field", "e3", head(t, func(e *entity.Entity) { e.Fields["n"] = json.RawMessage("2") }), []string{audit.ViewsHead}},
		{"another revision", "e3", head(t, func(e *entity.Entity) { e.Revision++ }), []string{audit.ViewsHead}},
		{"missing", "e3", nil, []string{audit.ViewsHead}},
		{"not JSON", "e3", []byte("{"), []string{audit.ViewsHead}},
		{"invented", "e7", head(t, nil), []string{audit.ViewsHead}},
		{"neither has it", "e7", nil, nil},
		{"a target that nothing changed", "e2", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := story().read(t, audit.Options{})
			a.CheckHead(c.id, c.head)
			wantOnly(t, a.Finish(true), c.want...)
		})
	}
	if got := slices.Collect(story().read(t, audit.Options{}).Heads()); !slices.Equal(got, []string{"e1", "e3", "e9"}) {
		t.Errorf("heads are %v", got)
	}
}

func TestRecordsAreComparedWithTheHistory(t *testing.T) {
	view := []string{audit.ViewsRecord}
	due := at(140)
	d := op.Record{Status: op.Succeeded, Priority: 5, Attempt: 3, RetryCount: 1}
	a := op.Record{Status: op.Rejected, Priority: 5, Reason: op.LowerPriority, Winner: "c"}
	b := op.Record{Status: op.Pending, Priority: 5, Reason: op.LowerPriority, Winner: "c", RetryCount: 1, RetryAt: &due}
	with := func(r op.Record, set func(r *op.Record)) *op.Record {
		set(&r)
		return &r
	}
	for _, c := range []struct {
		name, id string
		cut      uint64
		rec      *op.Record
		want     []string
	}{
		{"succeeded", "d", 0, &d, nil},
		{"rejected", "a", 0, &a, nil},
		{"of the other partition", "f", 0, &op.Record{Status: op.Succeeded, Priority: 9, Attempt: 1, Partition: 1}, nil},
		{"cancelled", "k", 0, &op.Record{Status: op.Cancelled, Priority: 5, Reason: op.CancelledByRequest}, nil},
		{"executing", "d", 4, &op.Record{Status: op.Executing, Priority: 5, Attempt: 1}, nil},
		{"backing off", "d", 5, with(d, func(r *op.Record) { r.Status, r.Attempt, r.RetryAt = op.Pending, 1, &due }), nil},
		{"back, and nobody said so", "b", 6, with(b, func(*op.Record) {}), nil},
		{"another status", "d", 0, with(d, func(r *op.Record) { r.Status = op.Rejected }), view},
		{"another reason", "a", 0, with(a, func(r *op.Record) { r.Reason = op.LaterSubmission }), view},
		{"another winner", "a", 0, with(a, func(r *op.Record) { r.Winner = "b" }), view},
		{"another attempt", "d", 0, with(d, func(r *op.Record) { r.Attempt = 2 }), view},
		{"another retry count", "d", 0, with(d, func(r *op.Record) { r.RetryCount = 0 }), view},
		{"another priority", "d", 0, with(d, func(r *op.Record) { r.Priority = 6 }), view},
		{"asked for another priority", "d", 0, with(d, func(r *op.Record) { r.Asked = 9 }), view},
		{"preempted", "d", 0, with(d, func(r *op.Record) { r.Preemptions = 1 }), view},
		{"the retry of another", "d", 0, with(d, func(r *op.Record) { r.RetryOf = "c" }), view},
		{"to come again", "a", 0, with(a, func(r *op.Record) { r.RetryAfterMS = 1000 }), view},
		{"to be cancelled", "d", 4, &op.Record{Status: op.Executing, Priority: 5, Attempt: 1, CancelAt: &due}, view},
		{"backing off for longer", "d", 5, with(d, func(r *op.Record) { r.Status, r.Attempt = op.Pending, 1 }), view},
		{"of a partition that never saw it", "a", 0, with(a, func(r *op.Record) { r.Partition = 1 }), view},
		{"missing", "a", 0, nil, view},
		{"invented", "ghost", 0, &op.Record{Status: op.Pending}, view},
		{"neither has it", "ghost", 0, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := story()
			if c.cut > 0 {
				h.cut(c.cut)
			}
			a := h.read(t, audit.Options{})
			a.CheckRecord(c.id, c.rec)
			wantOnly(t, a.Finish(!h.busy), c.want...)
		})
	}
}
