package audit_test

import (
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// heard is an event with the last token of its subject.
type heard struct {
	token string
	op.Event
}

// third are the events of the third step of the story, written by hand: c wins
// against a, b and d.
func third() []heard {
	about := func(id string, priority op.Priority, e op.Event) heard {
		e.OpID, e.OpType, e.Target, e.Priority = id, op.TypeComplexUpdate, "e1", priority
		e.Type, e.At, e.Process, e.Seq, e.Code = op.EventType, at(20), "r1", 3, e.Reason.Code()
		if e.Decision != "" && e.Status != op.Rejected && e.Name != op.EventRetry {
			e.Effective = priority
		}
		return heard{"e1", e}
	}
	one, three := 1, 3
	return []heard{
		about("c", 8, op.Event{ID: "0-3-1", Name: op.EventConflict, Winner: "c", Decision: "d3", Total: 4, Contenders: []op.ContenderRef{
			{OpID: "c", Priority: 8, Effective: 8}, {OpID: "a", Priority: 5, Effective: 5}, {OpID: "b", Priority: 5, Effective: 5}, {OpID: "d", Priority: 5, Effective: 5},
		}}),
		about("c", 8, op.Event{ID: "0-3-2", Name: op.EventPromoted, Attempt: 1, From: op.Pending, Status: op.Executing, Winner: "c", Decision: "d3"}),
		about("c", 8, op.Event{ID: "0-3-3", Name: op.EventStarted, Attempt: 1, Decision: "d3"}),
		about("a", 5, op.Event{ID: "0-3-4", Name: op.EventRejected, From: op.Pending, Status: op.Rejected, Reason: op.LowerPriority, Winner: "c", Decision: "d3"}),
		about("b", 5, op.Event{
			ID: "0-3-5", Name: op.EventRetry, From: op.Pending, Status: op.Pending, Reason: op.LowerPriority, Winner: "c", Decision: "d3",
			RetryCount: &one, MaxRetries: &three, BackoffMS: 100, RetryReason: "lost: " + string(op.LowerPriority),
		}),
	}
}

func TestEventsAreComparedWithTheirSteps(t *testing.T) {
	event, lost := []string{audit.ViewsEvent}, []string{audit.ViewsEventLost}
	type told = []heard
	spoilt := func(i int, f func(e *heard)) func(told) told {
		return func(e told) told { f(&e[i]); return e }
	}
	zero := 0
	for _, c := range []struct {
		name string
		tell func(told) told
		want []string
	}{
		{"all", func(e told) told { return e }, nil},
		{"one twice, after a take-over", func(e told) told { return append(e, e[2]) }, nil},
		{"none", func(told) told { return nil }, lost},
		{"one is lost", func(e told) told { return append(e[:1:1], e[2:]...) }, lost},
		{"another winner", spoilt(0, func(e *heard) { e.Winner = "a" }), event},
		{"another contender", spoilt(0, func(e *heard) { e.Contenders[1].OpID = "x" }), event},
		{"another contender's effective priority", spoilt(0, func(e *heard) { e.Contenders[1].Effective = 6 }), event},
		{"another effective priority", spoilt(0, func(e *heard) { e.Effective = 9 }), event},
		{"granted by another effective priority", spoilt(1, func(e *heard) { e.Effective = 9 }), event},
		{"another effective priority than that of who won", spoilt(3, func(e *heard) { e.Effective = 9 }), nil},
		{"another target in the subject", spoilt(1, func(e *heard) { e.token = "e2" }), event},
		{"another target", spoilt(1, func(e *heard) { e.Target = "e2" }), event},
		{"another operation", spoilt(1, func(e *heard) { e.OpID = "d" }), event},
		{"another attempt", spoilt(2, func(e *heard) { e.Attempt = 2 }), event},
		{"another owner", spoilt(2, func(e *heard) { e.Process = "r2" }), event},
		{"another instant", spoilt(2, func(e *heard) { e.At = at(21) }), event},
		{"another sequence", spoilt(2, func(e *heard) { e.Seq = 2 }), event},
		{"another reason", spoilt(3, func(e *heard) { e.Reason = op.LaterSubmission }), event},
		{"another status", spoilt(3, func(e *heard) { e.Status = op.Cancelled }), event},
		{"another priority", spoilt(3, func(e *heard) { e.Priority = 6 }), event},
		{"an error that nobody had", spoilt(3, func(e *heard) { e.Error = hiccup }), event},
		{"another retry count", spoilt(4, func(e *heard) { e.RetryCount = &zero }), event},
		{"another delay", spoilt(4, func(e *heard) { e.BackoffMS = 99 }), event},
		{"of another step", spoilt(4, func(e *heard) { e.ID = "0-2-1" }), []string{audit.ViewsEvent, audit.ViewsEventLost}},
		{"of a step that never was", func(e told) told { x := e[0]; x.ID = "0-99-1"; return append(e, x) }, event},
		{"of a partition that never was", func(e told) told { x := e[0]; x.ID = "7-3-1"; return append(e, x) }, event},
		{"one more than the step has", func(e told) told { x := e[0]; x.ID = "0-3-6"; return append(e, x) }, event},
		{"a step that was refused", func(e told) told {
			x := heard{"0", op.Event{ID: "stale-0000", Name: op.EventStaleCommit, Epoch: 1}}
			return append(e, x)
		}, nil},
		{"a step that was refused and is there", func(e told) told {
			x := heard{"0", op.Event{ID: "stale-sA-2ns", Name: op.EventStaleCommit, Epoch: 1}}
			return append(e, x)
		}, event},
		{"another event of that kind", func(e told) told {
			x := heard{"0", op.Event{ID: "stale-0000", Name: op.EventTakeover, Epoch: 1}}
			return append(e, x)
		}, event},
		{"of no step at all", func(e told) told { x := e[0]; x.ID = "ghost"; return append(e, x) }, event},
		{"with another spelling of the id", func(e told) told { x := e[0]; x.ID = "0-3-01"; return append(e, x) }, event},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := story()
			h.cut(3)
			a := h.read(t, audit.Options{Events: true})
			for _, e := range c.tell(third()) {
				a.CheckEvent(e.Name, e.token, &e.Event)
			}
			a.UntoldEvents(0, 3)
			wantOnly(t, a.Finish(false), c.want...)
		})
	}
}

func TestAnEventOnTheSubjectOfAnother(t *testing.T) {
	h := story()
	h.cut(3)
	a := h.read(t, audit.Options{Events: true})
	e := third()[3]
	a.CheckEvent(op.EventCancelled, e.token, &e.Event)
	wantOnly(t, a.Finish(false), audit.ViewsEvent)
}

// What is left of the intake must have been consumed as far as the cursor is, and
// nothing else may have been.
func TestTheIntakeIsComparedWithTheSteps(t *testing.T) {
	tell := func() *history {
		h := newHistory()
		h.busy = true
		h.step(0, nil)
		h.step(1, inputs(submit(3, operation("a", "e1", 5)), submit(5, operation("b", "e2", 5))), accepted("a"), accepted("b"))
		h.step(2, inputs(arbiter.Input{Invalid: &arbiter.Invalid{Place: op.Place{Seq: 7}, Target: "e1", Error: &op.Error{Code: "OPS-1001"}}}))
		return h
	}
	for _, c := range []struct {
		name   string
		from   uint64 // what is there when the reading begins
		stored []uint64
		first  uint64 // and what is there still when it ends
		want   []string
	}{
		{"all is there", 1, []uint64{3, 5, 7}, 3, nil},
		{"some is trimmed", 5, []uint64{5, 7}, 5, nil},
		{"some is trimmed meanwhile", 1, []uint64{5, 7}, 5, nil},
		{"all is trimmed", 8, nil, 8, nil},
		{"some is not consumed yet", 1, []uint64{3, 5, 7, 8, 9}, 3, nil},
		{"one was skipped", 1, []uint64{3, 4, 5, 7}, 3, []string{audit.LogSkipped}},
		{"one was invented", 1, []uint64{3, 7}, 3, []string{audit.LogInvented}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := tell().read(t, audit.Options{IntakeFrom: c.from})
			for _, seq := range c.stored {
				a.CheckIntake(0, seq)
			}
			a.CheckInvented(0, c.first)
			wantOnly(t, a.Finish(false), c.want...)
		})
	}
}

func TestWhatClientsWereTold(t *testing.T) {
	ack := func(id string) audit.Ack { return audit.Ack{OpID: id, Outcome: audit.Acknowledged} }
	refuse := func(id string) audit.Ack { return audit.Ack{OpID: id, Outcome: audit.Refused} }
	unknown := func(id string) audit.Ack { return audit.Ack{OpID: id, Outcome: audit.Unknown} }
	result := func(id string, s op.Status, why op.Reason, winner string) audit.Ack {
		return audit.Ack{OpID: id, Status: s, Reason: why, Winner: winner}
	}
	for _, c := range []struct {
		name string
		acks []audit.Ack
		want []string
	}{
		{"the truth", []audit.Ack{
			ack("a"), ack("d"), ack("f"), refuse("ghost"), unknown("b"), unknown("ghost2"),
			result("a", op.Rejected, op.LowerPriority, "c"), result("c", op.Succeeded, "", ""), result("k", op.Cancelled, op.CancelledByRequest, ""),
		}, nil},
		{"refused once and acknowledged later", []audit.Ack{refuse("a"), ack("a")}, nil},
		{"refused, and nobody knows about the other time", []audit.Ack{unknown("a"), refuse("a")}, nil},
		{"without the winner", []audit.Ack{result("a", op.Rejected, op.LowerPriority, "")}, nil},
		{"an acknowledged one is lost", []audit.Ack{ack("ghost")}, []string{audit.ClientsLost}},
		{"lost, and refused another time", []audit.Ack{refuse("ghost"), ack("ghost")}, []string{audit.ClientsLost}},
		{"a refused one is there", []audit.Ack{refuse("a")}, []string{audit.ClientsRefused}},
		{"another status", []audit.Ack{result("a", op.Succeeded, "", "")}, []string{audit.ClientsResult}},
		{"another reason", []audit.Ack{result("a", op.Rejected, op.LaterSubmission, "c")}, []string{audit.ClientsResult}},
		{"another winner", []audit.Ack{result("a", op.Rejected, op.LowerPriority, "b")}, []string{audit.ClientsResult}},
		{"of nothing", []audit.Ack{result("ghost", op.Succeeded, "", "")}, []string{audit.ClientsResult}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := story().read(t, audit.Options{Clients: true})
			for i := range c.acks {
				if why := c.acks[i].Check(); why != "" {
					t.Fatal(why)
				}
				a.CheckAck(&c.acks[i])
			}
			wantOnly(t, a.Finish(true), c.want...)
		})
	}
}

// What is invalid was refused with a reason; what is open has no result yet.
func TestWhatClientsWereToldOfTheInvalidAndTheOpen(t *testing.T) {
	h := newHistory()
	h.step(0, nil)
	bad := arbiter.Input{Invalid: &arbiter.Invalid{Place: op.Place{Seq: 1}, Target: "e1", OpID: "bad", Error: &op.Error{Code: "OPS-1001"}}}
	h.step(1, inputs(bad, submit(2, operation("a", "e1", 5))), accepted("a"))
	a := h.read(t, audit.Options{Clients: true})
	a.CheckAck(&audit.Ack{OpID: "bad", Outcome: audit.Acknowledged, Status: op.Rejected, Reason: op.Invalid})
	a.CheckAck(&audit.Ack{OpID: "a", Outcome: audit.Acknowledged})
	wantOnly(t, a.Finish(false))
	a.CheckAck(&audit.Ack{OpID: "a", Status: op.Succeeded})
	wantOnly(t, a.Finish(false), audit.ClientsResult)
}

func TestLinesThatSayNothing(t *testing.T) {
	for _, c := range []audit.Ack{
		{}, {OpID: "a b", Outcome: audit.Refused}, {OpID: "a"}, {OpID: "a", Outcome: "perhaps"}, {OpID: "a", Status: op.Pending}, {OpID: "a", Status: "GONE"},
	} {
		if c.Check() == "" {
			t.Errorf("%+v is taken", c)
		}
	}
}
