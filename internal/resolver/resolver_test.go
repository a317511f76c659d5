package resolver_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestAConflictFromSubmitToRecord(t *testing.T) {
	w := newWorld(t, 4)
	w.resolver("r1")
	w.executor("x1", nil)
	w.submit("door", `{"op_id":"make","op_type":"create_entity","params":{"fields":{"colour":"red"}}}`)
	w.end("make")
	w.submit("door", `[
		{"op_id":"low","op_type":"modify_field","priority":"low","params":{"field_name":"colour","new_value":"low"}},
		{"op_id":"crit","op_type":"modify_field","priority":"CRITICAL","params":{"field_name":"colour","new_value":"crit"}},
		{"op_id":"high","op_type":"modify_field","priority":8,"params":{"field_name":"colour","new_value":"high"}}]`)
	if r := w.end("crit"); r.Status != op.Succeeded || r.Revision != 2 || r.Version != 1 {
		t.Errorf("winner: %+v", r)
	}
	for _, id := range []string{"low", "high"} {
		r := w.end(id)
		if r.Status != op.Rejected || r.Reason != op.LowerPriority || r.Winner != "crit" || r.DecisionSeq == 0 {
			t.Errorf("loser %s: %+v", id, r)
		}
	}
	e := w.entity("door")
	if got := string(e.Fields["colour"]); got != `"crit"` || e.Revision != 2 {
		t.Errorf("door is %s at revision %d", got, e.Revision)
	}
	w.journal()
}

// A parent whose submission was acknowledged before its child's was sent is
// always found, whatever partition and whatever resolver either is in.
func TestParentsOfOtherPartitionsAreFound(t *testing.T) {
	for _, resolvers := range []int{1, 2} {
		t.Run(fmt.Sprintf("resolvers=%d", resolvers), func(t *testing.T) {
			w := newWorld(t, 8)
			for i := range resolvers {
				w.resolver(fmt.Sprintf("r%d", i))
			}
			w.executor("x1", nil)
			for i := range 40 {
				parent, child, rival := w.id("parent"), w.id("child"), w.id("rival")
				w.submit(fmt.Sprintf("p-%d", i), `{"op_id":%q,"op_type":"create_entity","priority":10}`, parent)
				target := fmt.Sprintf("c-%d", i)
				w.submit(target, `[{"op_id":%q,"op_type":"create_entity","priority":2,"parent_op_id":%q},{"op_id":%q,"op_type":"create_entity","priority":8}]`,
					child, parent, rival)
				if r := w.end(child); r.Status != op.Succeeded || r.Effective != op.Critical {
					t.Fatalf("round %d: child %+v", i, r)
				}
				if r := w.end(rival); r.Status != op.Rejected || r.Winner != child {
					t.Fatalf("round %d: rival %+v", i, r)
				}
			}
			w.journal()
		})
	}
}

func TestAnUnknownParentInheritsNothingAndTheDecisionSaysSo(t *testing.T) {
	w := newWorld(t, 4)
	w.resolver("r1")
	w.executor("x1", nil)
	w.submit("door", `{"op_id":"orphan","op_type":"create_entity","priority":3,"parent_op_id":"nobody"}`)
	if r := w.end("orphan"); r.Effective != 3 {
		t.Errorf("effective priority %v, want 3", r.Effective)
	}
	said := false
	for _, s := range w.journal() {
		for _, e := range s.Out {
			if e.Decision != nil && e.Decision.Winner == "orphan" {
				said = e.Decision.Contenders[0].UnknownParent == "nobody"
			}
		}
	}
	if !said {
		t.Error("no decision names the unknown parent")
	}
}

func TestStructuralOperationsReachTheOtherSideOnce(t *testing.T) {
	w := newWorld(t, 8)
	w.resolver("r1")
	w.executor("x1", nil)
	for _, id := range []string{"tree", "branch", "leaf"} {
		w.submit(id, `{"op_id":"make-%s","op_type":"create_entity"}`, id)
		w.end("make-" + id)
	}
	w.submit("branch", `{"op_id":"a1","op_type":"attach_entity","params":{"parent_id":"tree"}}`)
	w.end("a1")
	w.submit("leaf", `{"op_id":"a2","op_type":"attach_entity","params":{"parent_id":"branch"}}`)
	w.end("a2")
	w.eventually("the tree to know its branch", func() bool {
		return len(w.entity("tree").Children) == 1 && len(w.entity("branch").Children) == 1
	})
	if e := w.entity("leaf"); e.RootID != "tree" || e.ParentID != "branch" {
		t.Errorf("leaf: root %s, parent %s", e.RootID, e.ParentID)
	}
	// Made, then versioned once for each attachment below it.
	w.eventually("the tree to be versioned twice", func() bool { return w.entity("tree").Version == 3 })
	w.submit("branch", `{"op_id":"p1","op_type":"promote_to_root"}`)
	w.end("p1")
	w.eventually("the subtree to follow", func() bool {
		return w.entity("leaf").RootID == "branch" && len(w.entity("tree").Children) == 0
	})
	w.eventually("every operation to end", w.quiet)
	if v := w.entity("tree").Version; v != 4 {
		t.Errorf("the old root is at version %d, want 4: versioned once without its branch", v)
	}
	w.journal()
}

func TestInvalidSubmissionsAreToldAndThePartitionGoesOn(t *testing.T) {
	w := newWorld(t, 2)
	w.resolver("r1")
	w.executor("x1", nil)
	cases := map[string]string{
		`{"op_type":`:                                        op.CodeBadJSON,
		`{"op_type":"create_entity","colour":1}`:             op.CodeUnknownField,
		`{"op_type":7}`:                                      op.CodeWrongType,
		`{"op_type":"create_entity","op_id":"a.b"}`:          op.CodeBadID,
		`{"op_type":"nonsense"}`:                             op.CodeUnknownType,
		`{"op_type":"create_entity","target_entity_id":"x"}`: op.CodeTargetDiffers,
		`{"op_type":"create_entity","op_type":"delete"}`:     op.CodeDuplicateKey,
		`{"op_type":"structure_follow_up"}`:                  op.CodeUnknownType,
		`{"op_type":"create_entity","priority":11}`:          op.CodeBadPriority,
		`{"op_type":"create_entity","params":{"fields":{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}}}`: op.CodeTooDeep,
		`{"op_type":"` + strings.Repeat("x", op.MaxBody) + `"}`:                                                           op.CodeTooLarge,
	}
	for body := range maps.Keys(cases) {
		w.submit("door", "%s", body)
	}
	w.submit("door", `{"op_id":"good","op_type":"create_entity"}`)
	w.end("good")
	got := map[string]int{}
	for _, s := range w.journal() {
		for _, in := range s.In {
			if in.Invalid != nil {
				got[in.Invalid.Error.Code]++
			}
		}
	}
	for _, code := range cases {
		if got[code] == 0 {
			t.Errorf("no submission was refused with %s; got %v", code, got)
		}
	}
	events := 0
	ctx := t.Context()
	js := w.bus.JetStream()
	w.eventually("an event for each", func() bool {
		st, err := js.Stream(ctx, bus.StreamEvents)
		if err != nil {
			t.Fatal(err)
		}
		info, err := st.Info(ctx, jetstream.WithSubjectFilter("ops.event.system.invalid_submission.>"))
		if err != nil {
			t.Fatal(err)
		}
		events = 0
		for _, n := range info.State.Subjects {
			events += int(n)
		}
		return events == len(cases)
	})
}

// The views, the work and the events are outputs: a partition whose outputs were
// lost with the process that should have told them is told again in full.
func TestLostOutputsAreToldAgain(t *testing.T) {
	for _, every := range []uint64{1 << 30, 3} { // without and with snapshots on the way
		t.Run(fmt.Sprintf("snapshot-every=%d", every), func(t *testing.T) {
			w := newWorld(t, 2)
			first := w.resolver("r1", func(c *resolver.Config) { c.SnapshotEvery = every })
			w.executor("x1", nil)
			for i := range 30 {
				w.submit(fmt.Sprintf("e-%d", i%5), `{"op_id":"op-%d","op_type":%q,"on_conflict":"queue","params":%s}`,
					i, []string{"create_entity", "complex_update"}[min(1, i/5)], []string{`{}`, `{"increment":{"n":1}}`}[min(1, i/5)])
			}
			for i := range 30 {
				if r := w.end(fmt.Sprintf("op-%d", i)); r.Status != op.Succeeded {
					t.Fatalf("op-%d: %+v", i, r)
				}
			}
			first.stop()
			before := w.views()
			w.forget(every > 100)
			w.resolver("r2", func(c *resolver.Config) { c.SnapshotEvery = every })
			w.submit("e-0", `{"op_id":"after","op_type":"complex_update","params":{"increment":{"n":1}}}`)
			if r := w.end("after"); r.Status != op.Succeeded {
				t.Fatalf("after the take-over: %+v", r)
			}
			if every > 100 {
				after := w.views()
				for key, v := range before {
					if key != "entity/e-0" && after[key] != v {
						t.Errorf("%s\nbefore %s\nafter  %s", key, v, after[key])
					}
				}
			}
			if got := string(w.entity("e-0").Fields["n"]); got != "6" {
				t.Errorf("e-0 counts %s, want 6", got)
			}
			w.journal()
		})
	}
}

// views returns every head and record.
func (w *world) views() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for kv, err := range w.bus.Entities(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		all["entity/"+kv.Key] = string(kv.Value)
	}
	for kv, err := range w.bus.Records(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		var r op.Record
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			w.t.Fatal(err)
		}
		all["record/"+kv.Key] = string(kv.Value)
	}
	return all
}

// forget loses the emission marks, and the views where all is true.
func (w *world) forget(all bool) {
	w.t.Helper()
	streams := []string{"KV_OPS_MARKS"}
	if all {
		streams = append(streams, "KV_OPS_ENTITIES", "KV_OPS_OPERATIONS", "OBJ_OPS_SNAPSHOTS")
	} else {
		streams = nil
	}
	for _, name := range streams {
		st, err := w.bus.JetStream().Stream(w.t.Context(), name)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := st.Purge(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}
