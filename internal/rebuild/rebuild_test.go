package rebuild_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/rebuild"
	"github.com/hierarchy-bus/hierarchy/internal/systest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// world is a system with a history in which everything happens that a record can
// tell of.
type world struct {
	t   *testing.T
	ctx context.Context
	b   *bus.Bus
	w   *await.Watch
}

const policy = `{"retry_base_delay":"1ms","retry_max_delay":"2ms","types":{"complex_update":{"on_conflict":"coalesce","max_priority":5}}}`

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, b := systest.Start(t)
	w := &world{t: t, ctx: ctx, b: b, w: await.Start(ctx, b)}
	t.Cleanup(w.w.Stop)
	if _, err := w.b.PutPolicy(ctx, []byte(policy)); err != nil {
		t.Fatal(err)
	}
	missing := w.b.Layout().Partitions
	for e, err := range w.b.JournalFollow(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		var s arbiter.Step
		if err := json.Unmarshal(e.Data, &s); err != nil {
			t.Fatal(err)
		}
		for i := range s.In {
			if s.In[i].Policy != nil {
				missing--
			}
		}
		if missing == 0 {
			break
		}
	}
	return w
}

// send submits and waits for the ends.
func (w *world) send(target, body string, ids ...string) {
	w.t.Helper()
	w.publish(bus.SubmitSubject(target), body)
	w.w.Expect(ids...)
	if err := w.w.Wait(w.ctx); err != nil {
		w.t.Fatalf("%v are open: %v", w.w.Open(), err)
	}
}

func (w *world) publish(subject, body string) {
	w.t.Helper()
	if _, err := w.b.Publish(w.ctx, subject, []byte(body), "", nil); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) history() {
	w.t.Helper()
	for i := range 3 {
		id := fmt.Sprintf("e%d", i)
		w.send(id, `{"op_id":"new-`+id+`","op_type":"create_entity","params":{"fields":{"n":1}}}`, "new-"+id)
	}
	w.send("e0", `[{"op_id":"won","op_type":"version_entity","priority":8},{"op_id":"lost","op_type":"version_entity"},{"op_id":"later","op_type":"version_entity","on_conflict":"queue"},{"op_id":"again","op_type":"version_entity","on_conflict":"retry"}]`,
		"won", "lost", "later", "again")
	w.send("e1", `[{"op_id":"same-1","op_type":"complex_update","priority":9,"params":{"set":{"x":1}}},{"op_id":"same-2","op_type":"complex_update","params":{"set":{"x":1}}},{"op_id":"other","op_type":"complex_update","params":{"set":{"x":2}}}]`,
		"same-1", "same-2", "other")
	w.send("e2", `{"op_id":"stale","op_type":"version_entity","expected_version":99}`, "stale")
	w.send("nobody", `{"op_id":"hopeless","op_type":"version_entity","max_retries":1}`, "hopeless")
	w.send("nobody", `{"op_id":"given-up","op_type":"version_entity","max_retries":0}`, "given-up")
	w.send("nobody", `{"op_id":"second-try","op_type":"create_entity","retry_of":"given-up"}`, "second-try")
	w.send("e2", `{"op_id":"child","op_type":"version_entity","parent_op_id":"won"}`, "child")
	w.send("e2", `{"op_id":"gone","op_type":"delete_entity"}`, "gone")
}

func (w *world) run(o rebuild.Options) *rebuild.Result {
	w.t.Helper()
	r, err := rebuild.Run(w.ctx, w.b, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// told writes differences as short lines.
func told(r *rebuild.Result) (lines []string) {
	for i := range r.Differences {
		d := &r.Differences[i]
		lines = append(lines, strings.Join([]string{string(d.View), d.Key, string(d.Kind), strings.Join(d.Fields, ",")}, " "))
	}
	return lines
}

// TestTheViewsAreWhatTheJournalLeadsTo: the fold and the resolver compute every
// value byte for byte alike, whatever became of an operation. This is what lets
// the one mend what the other has written.
func TestTheViewsAreWhatTheJournalLeadsTo(t *testing.T) {
	w := newWorld(t)
	w.history()
	r := w.run(rebuild.Options{DryRun: true})
	if len(r.Differences) > 0 || len(r.Lagging) > 0 || r.Newer > 0 {
		t.Errorf("%v, lagging %v, newer %d", told(r), r.Lagging, r.Newer)
	}
	if r.Entities != 4 || r.Operations != 16 || r.Dead != 1 || r.To == 0 {
		t.Errorf("%+v", r)
	}
	ended := map[op.Reason]int{}
	for kv, err := range w.b.Records(w.ctx) {
		var rec op.Record
		if err != nil || json.Unmarshal(kv.Value, &rec) != nil {
			t.Fatalf("%s: %v", kv.Value, err)
		}
		ended[rec.Reason]++
	}
	for _, reason := range []op.Reason{"", op.LowerPriority, op.Coalesced, op.StaleVersion, op.MaxRetries} {
		if ended[reason] == 0 {
			t.Errorf("no operation ended with %q, so this test asks too little: %v", reason, ended)
		}
	}
}

// TestMending spoils one value of each kind and demands that it is found, named,
// and put right, while a dry run changes nothing.
func TestMending(t *testing.T) {
	w := newWorld(t)
	w.history()
	before := w.dump()
	spoil := func(subject string, data []byte, header nats.Header) {
		t.Helper()
		if _, err := w.b.Publish(w.ctx, subject, data, "", header); err != nil {
			t.Fatal(err)
		}
	}
	entityKey := func(id string) string { return bus.EntityMsg(id, nil).Subject }
	recordKey := func(id string) string { return bus.RecordMsg(id, nil).Subject }
	removed := nats.Header{"KV-Operation": {"DEL"}}
	// A value without an order: somebody's `nats kv put`.
	spoil(entityKey("e0"), []byte(strings.Replace(before["$KV.OPS_ENTITIES.e0"], `"n":1`, `"n":7`, 1)), nil)
	spoil(entityKey("e1"), nil, removed)
	spoil(entityKey("stranger"), []byte(`{"id":"stranger"}`), nil)
	// A value that says it is of the right step: the emitter alone would not dare.
	forged := strings.Replace(before["$KV.OPS_OPERATIONS.lost"], `"REJECTED"`, `"SUCCEEDED"`, 1)
	spoil(recordKey("lost"), []byte(forged), nats.Header{bus.HeaderOrder: {fmt.Sprint(seqOf(t, forged))}})
	spoil(recordKey("won"), []byte(`nonsense`), nil)
	spoil(recordKey("child"), nil, removed)
	// One from a future that the journal does not know.
	spoil(recordKey("gone"), []byte(strings.Replace(before["$KV.OPS_OPERATIONS.gone"], `"journal_seq":`, `"journal_seq":9999`, 1)), nats.Header{bus.HeaderOrder: {"99999999"}})
	spoil(bus.DeadMsg("hopeless", nil).Subject, nil, removed)
	spoil(bus.DeadMsg("given-up", nil).Subject, []byte(before["$KV.OPS_DEAD.hopeless"]), nil)
	want := []string{
		"entities e0 different fields",
		"entities e1 missing ",
		"entities stranger surplus ",
		"operations child missing ",
		"operations gone different ",
		"operations lost different status",
		"operations won different ",
		"dead given-up different ",
		"dead hopeless missing ",
	}
	spoiled := w.dump()
	dry := w.run(rebuild.Options{DryRun: true})
	if got := told(dry); !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if after := w.dump(); !equal(after, spoiled) || dry.Left() != len(want)-1 {
		t.Errorf("a dry run has changed something, or says so: %d left", dry.Left())
	}
	r := w.run(rebuild.Options{})
	if got := told(r); !slices.Equal(got, want) || r.Left() != 0 || r.Count(rebuild.Surplus) != 1 {
		t.Errorf("mended\n%s\nleft %d", strings.Join(got, "\n"), r.Left())
	}
	before["$KV.OPS_ENTITIES.stranger"] = `{"id":"stranger"}`
	if after := w.dump(); !equal(after, before) {
		t.Errorf("the views are not what they were:\n%v\n%v", after, before)
	}
	// The system goes on from there.
	w.send("e1", `{"op_id":"onward","op_type":"modify_field","params":{"field_name":"n","new_value":5}}`, "onward")
	if last := w.run(rebuild.Options{DryRun: true}); len(last.Differences) != 1 {
		t.Errorf("after it went on: %v", told(last))
	}
}

// TestALiveResolverIsNotOvertaken: what a resolver has written after the journal
// was read stays.
func TestALiveResolverIsNotOvertaken(t *testing.T) {
	w := newWorld(t)
	w.history()
	later := false
	o := rebuild.Options{Patience: time.Second, Progress: func(read, last uint64) {
		if read != last || later {
			return
		}
		later = true // the whole journal is read by now
		w.send("e1", `{"op_id":"onward","op_type":"modify_field","params":{"field_name":"n","new_value":5}}`, "onward")
	}}
	if r := w.run(o); len(r.Differences) != 0 || r.Newer < 2 {
		t.Errorf("%v, %d newer", told(r), r.Newer)
	}
	if data, _, err := w.b.Entity(w.ctx, "e1"); err != nil || !strings.Contains(string(data), `"n":5`) {
		t.Errorf("%s, %v", data, err)
	}
}

// TestAJournalThatLeadsNowhere is not a reason to write anything.
func TestAJournalThatLeadsNowhere(t *testing.T) {
	w := newWorld(t)
	w.history()
	before := w.dump()
	w.publish(bus.JournalSubject(3), `{"surprise":true}`)
	if _, err := rebuild.Run(w.ctx, w.b, rebuild.Options{}); err == nil || !strings.Contains(err.Error(), "schema") {
		t.Errorf("%v", err)
	}
	if !equal(w.dump(), before) {
		t.Error("something was written")
	}
}

// dump is every value of the views, once all of them are told.
func (w *world) dump() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for bucket, values := range map[string]func(func(bus.KV, error) bool){
		"OPS_ENTITIES": w.b.Entities(w.ctx), "OPS_OPERATIONS": w.b.Records(w.ctx), "OPS_DEAD": w.b.DeadLetters(w.ctx),
	} {
		for kv, err := range values {
			if err != nil {
				w.t.Fatal(err)
			}
			all["$KV."+bucket+"."+kv.Key] = string(kv.Value)
		}
	}
	return all
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func seqOf(t *testing.T, record string) uint64 {
	t.Helper()
	var r op.Record
	if err := json.Unmarshal([]byte(record), &r); err != nil {
		t.Fatal(err)
	}
	return r.JournalSeq
}
