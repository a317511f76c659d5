package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/systest"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// history runs a few operations, with losers among them, and leaves a system on
// which nobody writes any more.
func history(t *testing.T) (context.Context, *bus.Bus) {
	t.Helper()
	ctx, b := systest.Start(t)
	w := await.Start(ctx, b)
	defer w.Stop()
	send := func(target, body string, ids ...string) {
		if _, err := b.Publish(ctx, bus.SubmitSubject(target), []byte(body), "", nil); err != nil {
			t.Fatal(err)
		}
		w.Expect(ids...)
		if err := w.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		id := fmt.Sprintf("e%d", i)
		send(id, `{"op_id":"new-`+id+`","op_type":"create_entity","params":{"fields":{"n":1}}}`, "new-"+id)
		send(id, `[{"op_id":"won-`+id+`","op_type":"version_entity","priority":8},{"op_id":"lost-`+id+`","op_type":"version_entity"}]`, "won-"+id, "lost-"+id)
	}
	return ctx, b
}

func check(ctx context.Context, t *testing.T, b *bus.Bus, o verify.Options) *verify.Result {
	t.Helper()
	r, err := verify.Run(ctx, b, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestGoodHistory(t *testing.T) {
	ctx, b := history(t)
	for _, quiescent := range []bool{false, true} {
		r := check(ctx, t, b, verify.Options{Quiescent: quiescent})
		if !r.OK() {
			t.Errorf("quiescent %v: %v", quiescent, r.Violations)
		}
		if r.Operations != 9 || r.Succeeded != 6 || r.Rejected != 3 || r.Heads != 3 || r.Records != 9 || r.Events < 9 || r.Intake < 6 || len(r.Unchecked) > 0 || len(r.Lagging) > 0 || r.Newer > 0 {
			t.Errorf("quiescent %v: %+v", quiescent, r)
		}
	}
}

// TestFaults plants one fault each and demands that it is found.
func TestFaults(t *testing.T) {
	ctx, b := history(t)
	publish := func(t *testing.T, subject string, data []byte) {
		t.Helper()
		if _, err := b.Publish(ctx, subject, data, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name, want string
		plant      func(*testing.T)
	}{
		{"a head with another value", audit.ViewsHead, func(t *testing.T) {
			head, _, err := b.Entity(ctx, "e1")
			if err != nil {
				t.Fatal(err)
			}
			publish(t, bus.EntityMsg("e1", nil).Subject, []byte(strings.Replace(string(head), `"n":1`, `"n":2`, 1)))
		}},
		{"a record that contradicts", audit.ViewsRecord, func(t *testing.T) {
			data, _, err := b.Record(ctx, "lost-e2")
			if err != nil {
				t.Fatal(err)
			}
			var r op.Record
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			r.Status, r.Reason, r.Winner = op.Succeeded, "", ""
			if data, err = op.Marshal(&r); err != nil {
				t.Fatal(err)
			}
			publish(t, bus.RecordMsg("lost-e2", nil).Subject, data)
		}},
		{"an event that no step tells", audit.ViewsEvent, func(t *testing.T) {
			publish(t, bus.EventSubject(op.EventCompleted, "e1"), []byte(`{"type":"ops.v1.event","event":"operation.completed","event_id":"0-9999-1","op_id":"lost-e1","seq":1}`))
		}},
		{"a step that nobody can read", audit.LogUndecodable, func(t *testing.T) {
			publish(t, bus.JournalSubject(3), []byte(`{"surprise":true}`))
		}},
	}
	for _, s := range steps { // one after the other: each leaves its fault behind
		s.plant(t)
		r := check(ctx, t, b, verify.Options{Patience: time.Second})
		if r.ByInvariant[s.want] == 0 {
			t.Errorf("%s: %s was not found among %v", s.name, s.want, r.ByInvariant)
		}
	}
}

// patience is a policy under which nothing is decided for an hour.
const patience = `{"staging_window":"1h"}`

// rule puts the first policy into force for some targets.
func rule(ctx context.Context, t *testing.T, b *bus.Bus, policy string, targets ...string) {
	t.Helper()
	if _, err := b.PutPolicy(ctx, []byte(policy)); err != nil {
		t.Fatal(err)
	}
	waits := map[int]bool{}
	for _, target := range targets {
		waits[bus.PartitionOf(target, b.Layout().Partitions)] = true
	}
	for e, err := range b.JournalFollow(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(e.Data), `"policy":{"revision":1`) {
			delete(waits, e.Partition)
		}
		if len(waits) == 0 {
			return
		}
	}
}

// TestOpen demands that a history in which something never ends is found
// wanting, and that the wait for it is bounded. What somebody else has left open is
// named and not held against those who ask about their own.
func TestOpen(t *testing.T) {
	ctx, b := history(t)
	rule(ctx, t, b, patience, "e0")
	body := []byte(`{"op_id":"late","op_type":"version_entity"}`)
	if _, err := b.Publish(ctx, bus.SubmitSubject("e0"), body, "", nil); err != nil {
		t.Fatal(err)
	}
	r := check(ctx, t, b, verify.Options{Quiescent: true, Patience: 500 * time.Millisecond})
	if r.ByInvariant[audit.LifeOpen] != 1 || r.Foreign != 0 {
		t.Errorf("an open operation was not found: %v", r.ByInvariant)
	}
	r = check(ctx, t, b, verify.Options{Quiescent: true, Patience: time.Minute, Own: func(id string) bool { return id != "late" }})
	if !r.OK() || r.Open != 1 || r.Foreign != 1 {
		t.Errorf("of somebody else: %d open, %d foreign, %v", r.Open, r.Foreign, r.Violations)
	}
}

// TestCascade cancels an operation whose child another partition holds. The history
// is calm only when every partition was told.
func TestCascade(t *testing.T) {
	ctx, b := history(t)
	if n := b.Layout().Partitions; bus.PartitionOf("e0", n) == bus.PartitionOf("e1", n) {
		t.Fatal("both targets are in one partition")
	}
	rule(ctx, t, b, patience, "e0", "e1")
	w := await.Start(ctx, b)
	defer w.Stop()
	for _, m := range []struct{ subject, body string }{
		{bus.SubmitSubject("e0"), `{"op_id":"parent","op_type":"version_entity"}`},
		{bus.SubmitSubject("e1"), `{"op_id":"child","op_type":"version_entity","parent_op_id":"parent"}`},
		{bus.CancelSubject("e0"), `{"op_id":"parent"}`},
	} {
		if _, err := b.Publish(ctx, m.subject, []byte(m.body), "", nil); err != nil {
			t.Fatal(err)
		}
	}
	w.Expect("parent", "child")
	if err := w.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	r := check(ctx, t, b, verify.Options{Quiescent: true})
	if !r.OK() || r.Cancelled != 2 {
		t.Errorf("%d cancelled, %v", r.Cancelled, r.Violations)
	}
}

// TestAcks asks a system about what clients were told.
func TestAcks(t *testing.T) {
	ctx, b := history(t)
	for name, c := range map[string]struct {
		lines string
		want  []string
	}{
		"the truth": {`{"op_id":"won-e1","outcome":"acknowledged","status":"SUCCEEDED"}

			{"op_id":"lost-e1","status":"REJECTED","reason":"lower_priority","winner":"won-e1"}
			{"op_id":"ghost","outcome":"refused"}
			{"op_id":"ghost2","outcome":"unknown"}`, nil},
		"nothing of it": {`{"op_id":"ghost","outcome":"acknowledged"}
			{"op_id":"won-e1","outcome":"refused"}
			{"op_id":"lost-e1","status":"SUCCEEDED"}`, []string{audit.ClientsLost, audit.ClientsRefused, audit.ClientsResult}},
	} {
		r := check(ctx, t, b, verify.Options{Acks: strings.NewReader(c.lines)})
		for _, inv := range c.want {
			if r.ByInvariant[inv] != 1 {
				t.Errorf("%s: %s was not found among %v", name, inv, r.ByInvariant)
			}
		}
		if r.Total != len(c.want) || r.Acks < 3 {
			t.Errorf("%s: %d lines, %v", name, r.Acks, r.Violations)
		}
	}
	for _, lines := range []string{"{}", `{"op_id":"a","outcome":"acknowledged","surprise":1}`, "acknowledged", `{"op_id":"a","outcome":"maybe"}`} {
		var bad *verify.AckError
		if _, err := verify.Run(ctx, b, verify.Options{Acks: strings.NewReader("\n" + lines)}); !errors.As(err, &bad) || bad.Line != 2 {
			t.Errorf("%s: %v", lines, err)
		}
	}
}
