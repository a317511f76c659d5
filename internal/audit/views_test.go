package audit_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
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
	d := op.Record{Status: op.Succeeded, Priority: 5, Attempt: 3, RetryCount: 1, Error: hiccup}
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
		{"another error", "d", 0, with(d, func(r *op.Record) { r.Error = stale }), view},
		{"the error is forgotten", "d", 0, with(d, func(r *op.Record) { r.Error = nil }), view},
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

// What a record says about the newer parts of a life is settled by the history, too.
func TestRecordsOfTheWholeLifeCycle(t *testing.T) {
	end := at(110)
	overloaded := func(h *history) {
		under(h, func(p *arbiter.Policy) { fullWithOne(p); p.Submitters = map[string]arbiter.Range{"ann": {Max: 4}} })
		arrives(h, operation("b", "e2", 5))
		a := operation("a", "e1", 5, by("ann"))
		a.RetryOf = "old"
		h.step(2, inputs(submit(2, a)), clamped("a", 5, 4), rejected("a", "e1", op.Pending, op.Overloaded))
	}
	for _, c := range []struct {
		name, id string
		tell     func(h *history)
		rec      op.Record
		spoil    func(r *op.Record)
	}{
		{
			"preempted", "a", preempted(110),
			op.Record{Status: op.Pending, Priority: 5, Reason: op.Preempted, Winner: "b", Attempt: 1, Preemptions: 1},
			func(r *op.Record) { r.Reason = "" },
		},
		{
			"preempted, not counted", "a", preempted(110),
			op.Record{Status: op.Pending, Priority: 5, Reason: op.Preempted, Winner: "b", Attempt: 1, Preemptions: 1},
			func(r *op.Record) { r.Preemptions = 0 },
		},
		{"to be cancelled", "a", waits, op.Record{Status: op.Executing, Priority: 5, Attempt: 1, CancelAt: &end}, func(r *op.Record) { r.CancelAt = nil }},
		{"coalesced", "b", merged, op.Record{Status: op.Pending, Priority: 5, Reason: op.Coalesced, Winner: "a"}, func(r *op.Record) { r.Winner = "" }},
		{"shared", "b", both, op.Record{Status: op.Succeeded, Priority: 5, Reason: op.Coalesced, Winner: "a"}, func(r *op.Record) { r.Reason = "" }},
		{"failed together", "b", neither, op.Record{Status: op.Rejected, Priority: 5, Reason: op.StaleVersion, Winner: "a", Error: stale}, func(r *op.Record) { r.Reason = op.Coalesced }},
		{"parted", "b", apart, op.Record{Status: op.Pending, Priority: 5}, func(r *op.Record) { r.Winner = "a" }},
		{"superseded", "a", replaced, op.Record{Status: op.Rejected, Priority: 5, Reason: op.Superseded, Winner: "b"}, func(r *op.Record) { r.Winner = "" }},
		{"cancelled with its parent", "c", orphans, op.Record{Status: op.Cancelled, Priority: 5, Reason: op.CancelledWithParent}, func(r *op.Record) { r.Reason = op.CancelledByRequest }},
		{"overloaded", "a", overloaded, op.Record{Status: op.Rejected, Priority: 4, Asked: 5, Reason: op.Overloaded, RetryOf: "old", RetryAfterMS: 1000}, func(r *op.Record) { r.RetryAfterMS = 0 }},
		{"clamped", "a", overloaded, op.Record{Status: op.Rejected, Priority: 4, Asked: 5, Reason: op.Overloaded, RetryOf: "old", RetryAfterMS: 1000}, func(r *op.Record) { r.Asked = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, spoilt := range []bool{false, true} {
				h := newHistory()
				alone(c.tell)(h)
				a := h.read(t, audit.Options{})
				var want []string
				if spoilt {
					c.spoil(&c.rec)
					want = []string{audit.ViewsRecord}
				}
				a.CheckRecord(c.id, &c.rec)
				wantOnly(t, a.Finish(false), want...)
			}
		})
	}
}
