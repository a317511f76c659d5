package stress

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func bursts(p Profile, seed uint64) []Burst {
	var all []Burst
	for b := range NewWorkload(p, "r", seed).Bursts {
		all = append(all, b)
	}
	return all
}

// TestWorkload compares the seeds' workload with what the seeds ask for.
func TestWorkload(t *testing.T) {
	p := Seed()
	all := bursts(p, 1)
	if !reflect.DeepEqual(all, bursts(p, 1)) {
		t.Error("the same seed gives other operations")
	}
	if reflect.DeepEqual(all, bursts(p, 2)) {
		t.Error("another seed gives the same operations")
	}
	ops := 0
	priorities, types, targets, ids := map[op.Priority]int{}, map[string]int{}, map[string]int{}, map[string]bool{}
	for i, b := range all {
		if len(b.Ops) < 3 || len(b.Ops) > 8 || b.At < 0 || b.At >= time.Minute || i > 0 && b.At <= all[i-1].At {
			t.Fatalf("burst %d of %d at %s", i, len(b.Ops), b.At)
		}
		for _, o := range b.Ops {
			ops++
			priorities[o.Priority]++
			types[o.Type]++
			targets[o.Target]++
			ids[o.ID] = true
			if o.Target != b.Ops[0].Target {
				t.Fatalf("burst %d has two targets", i)
			}
			body, err := op.Encode(&o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := op.Decode(body, "", op.BuiltinTypes()); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			if err := entity.CheckParams(&o); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
		}
	}
	near := func(what string, n int, share float64) {
		if got := float64(n) / float64(ops); math.Abs(got-share) > 0.03 {
			t.Errorf("%s: %.3f instead of %.2f", what, got, share)
		}
	}
	if math.Abs(float64(ops)-9000) > 20 || len(ids) != ops || len(targets) != 10 {
		t.Errorf("%d operations, %d ids, %d targets", ops, len(ids), len(targets))
	}
	near("LOW", priorities[op.Low], 0.25)
	near("NORMAL", priorities[op.Normal], 0.45)
	near("HIGH", priorities[op.High], 0.25)
	near("CRITICAL", priorities[op.Critical], 0.05)
	near("version_entity", types[op.TypeVersion], 0.30)
	near("modify_field", types[op.TypeModifyField], 0.25)
	near("borrow_attribute", types[op.TypeBorrow], 0.20)
	near("complex_update", types[op.TypeComplexUpdate], 0.15)
	near("promote_to_root", types[op.TypePromoteToRoot], 0.05)
	near("detach_entity", types[op.TypeDetach], 0.05)
}

// TestDemoEndsInEveryWay: the demo has losers that wait and come back, and
// cancels only operations that wait.
func TestDemoEndsInEveryWay(t *testing.T) {
	conflict, cancelled := map[op.Conflict]int{}, 0
	for _, b := range bursts(Demo(), 1) {
		queued := map[string]bool{}
		for _, o := range b.Ops {
			conflict[o.OnConflict]++
			queued[o.ID] = o.OnConflict == op.OnConflictQueue
		}
		for _, id := range b.Cancel {
			cancelled++
			if !queued[id] {
				t.Errorf("%s is cancelled and does not wait", id)
			}
		}
	}
	if len(conflict) != 3 || cancelled == 0 {
		t.Errorf("%v, %d cancelled", conflict, cancelled)
	}
}

// TestAccounting plants what a report must not overlook.
func TestAccounting(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	a := newAccounting()
	for _, id := range []string{"won", "lost", "twice", "missing", "open", "same", "yields"} {
		a.expect(&op.Operation{ID: id, Type: op.TypeVersion, Priority: op.High})
	}
	submit := func(id, typ string) arbiter.Input {
		return arbiter.Input{Submit: &arbiter.Submit{Operation: op.Operation{ID: id, Type: typ, Priority: op.Normal}}}
	}
	s := arbiter.Step{
		In: []arbiter.Input{submit("won", op.TypeVersion), submit("lost", op.TypeVersion), submit("twice", op.TypeVersion), submit("open", op.TypeVersion), submit("f", op.TypeFollowUp), submit("foreign", op.TypeVersion), submit("same", op.TypeVersion), submit("yields", op.TypeVersion), submit("g", op.TypeFollowUp), {Result: &arbiter.Result{}}, {Beat: &arbiter.Beat{}}},
		Out: []arbiter.Effect{
			{Decision: &op.Decision{WindowClosed: at, Contenders: []op.Contender{{OpID: "won", Priority: op.High, Effective: op.High}, {OpID: "lost", Priority: op.Low, Effective: op.Low}}}},
			{Decision: &op.Decision{WindowClosed: at.Add(-time.Hour), Contenders: []op.Contender{{OpID: "foreign", Priority: op.Low, Effective: op.Low}}}},
			{Granted: &arbiter.Granted{OpID: "won", Effective: op.High}},
			{Succeeded: &arbiter.Succeeded{OpID: "won"}},
			{Retry: &arbiter.Retry{OpID: "lost", RetryCount: 1}},
			{Rejected: &arbiter.Rejected{OpID: "lost", Reason: op.LowerPriority}},
			{Succeeded: &arbiter.Succeeded{OpID: "twice"}},
			{Cancelled: &arbiter.Cancelled{OpID: "twice", Reason: op.CancelledByRequest}},
			{Accepted: &arbiter.Accepted{OpID: "open"}},
			{Coalesced: &arbiter.Coalesced{OpID: "same", Into: "won"}},
			{Shared: &arbiter.Shared{OpID: "same", With: "won"}},
			{Preempted: &arbiter.Preempted{OpID: "yields"}},
			{Rejected: &arbiter.Rejected{OpID: "yields", Reason: op.Superseded}},
			{Preempted: &arbiter.Preempted{OpID: "foreign"}},
			{Refused: &arbiter.Refused{OpID: "won", Input: 9}},
			{Refused: &arbiter.Refused{OpID: "won", Input: 10}},
			{Refused: &arbiter.Refused{OpID: "foreign", Input: 9}},
		},
	}
	s.In[4].Submit.CausedBy, s.In[8].Submit.CausedBy = "won", "foreign"
	data, err := json.Marshal(&s)
	if err != nil {
		t.Fatal(err)
	}
	a.step(at.Add(2*time.Millisecond), data)
	r := (&run{account: a}).result(at, Process{})
	if r.Unaccounted != 3 { // ended twice, never seen, never ended
		t.Errorf("unaccounted %d", r.Unaccounted)
	}
	if r.Submitted != 7 || r.Total.Succeeded != 2 || r.Total.Rejected != 2 || r.Total.Cancelled != 1 || r.Total.Open != 2 || r.Total.Retried != 1 {
		t.Errorf("%+v", r.Total)
	}
	if r.Shared != 1 || r.Preempted != 1 || r.Reasons["superseded"] != 1 {
		t.Errorf("%+v", r)
	}
	if r.FollowUps != 1 || r.Stale != 1 || r.Decisions != 1 || r.Total.Decision.Max != 2 || r.Reasons["lower_priority"] != 1 {
		t.Errorf("%+v", r)
	}
	if r.Complete() || r.Unreadable != 0 {
		t.Errorf("complete %v, %d unreadable", r.Complete(), r.Unreadable)
	}
	clean := newAccounting()
	clean.step(at, []byte("{"))
	if r := (&run{account: clean}).result(at, Process{}); r.Complete() || r.Unreadable != 1 {
		t.Errorf("a step that cannot be read is overlooked: %+v", r)
	}
}

func TestSummarise(t *testing.T) {
	var ms []float64
	for i := range 100 {
		ms = append(ms, float64(100-i))
	}
	if l := summarise(ms); l != (Latency{100, 50, 90, 99, 100}) {
		t.Errorf("%+v", l)
	}
	if l := summarise([]float64{7}); l != (Latency{1, 7, 7, 7, 7}) {
		t.Errorf("%+v", l)
	}
	if l := summarise(nil); l != (Latency{}) {
		t.Errorf("%+v", l)
	}
}

func TestMemory(t *testing.T) {
	name := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(name, []byte("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if now, peak := memory(name); now != 1<<20 || peak != 2<<20 {
		t.Errorf("%d %d", now, peak)
	}
	if now, peak := memory(name + ".missing"); now != 0 || peak != 0 {
		t.Errorf("%d %d", now, peak)
	}
}
