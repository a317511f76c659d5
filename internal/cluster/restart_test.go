package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each role dies once and comes back, and the system does its work after each
// of these moments: what one of two did, the other one does.
func TestRolesDieAndComeBack(t *testing.T) {
	c := start(t, cluster.Options{
		StoreDir: t.TempDir(), Memory: true, Port: cluster.NoListener,
		Resolvers: 2, Executors: 2, LeaseTTL: time.Second, Drain: time.Second,
	})
	n := 0
	works := func(when string) {
		t.Helper()
		for range 4 { // several partitions, so that both resolvers have some
			n++
			e := do(t, c.Bus(), op.Operation{ID: fmt.Sprint("op-", n), Type: op.TypeCreate, Target: fmt.Sprint("e-", n), Priority: op.Normal})
			if e.Status != op.Succeeded {
				t.Fatalf("%s: %s is %s %s", when, e.OpID, e.Status, e.Reason)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	names := []string{"submitter-1", "executor-1", "executor-2", "resolver-1", "resolver-2", "observer-1"}
	if got := c.Names(); !slices.Equal(got, names) {
		t.Fatalf("roles %v, want %v", got, names)
	}
	for _, name := range names {
		if err := c.Kill(name); err != nil {
			t.Fatal(err)
		}
		works(name + " is dead")
		if err := c.Restart(ctx, name); err != nil {
			t.Fatal(err)
		}
		works(name + " is back")
	}
	for _, err := range []error{c.Kill("nobody"), c.Restart(ctx, "nobody")} {
		if err == nil || !strings.Contains(err.Error(), "nobody") {
			t.Errorf("a role that there is not: %v", err)
		}
	}
	select {
	case err := <-c.Failed():
		t.Errorf("told as a failure: %v", err)
	default:
	}
	r, err := verify.Run(ctx, c.Bus(), verify.Options{Quiescent: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Errorf("%+v", v)
	}
}

// The policy is in force for the first operation already.
func TestPolicyComesFirst(t *testing.T) {
	c := start(t, cluster.Options{StoreDir: t.TempDir(), Memory: true, Port: cluster.NoListener, Policy: []byte(`{"staging_window":"3ms"}`)})
	e := do(t, c.Bus(), op.Operation{ID: "a", Type: op.TypeCreate, Target: "user-42", Priority: op.Normal})
	if e.Status != op.Succeeded {
		t.Fatalf("a is %s %s", e.Status, e.Reason)
	}
	data, _, err := c.Bus().Record(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	var r op.Record
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	entry, err := c.Bus().JournalGet(t.Context(), r.DecisionSeq)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(entry.Data), `"policy_revision":1`) {
		t.Errorf("the first decision was made under another policy: %s", entry.Data)
	}
}

// In memory, nothing of the streams is left on the disk, and a process that is to
// stay small can have one: what streams may hold is not what they need.
func TestMemory(t *testing.T) {
	before := debug.SetMemoryLimit(256 << 20)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	c := start(t, cluster.Options{StoreDir: t.TempDir(), Memory: true, Port: cluster.NoListener})
	changes, err := bus.Diff(t.Context(), c.Bus().Conn(), bus.DefaultLayout())
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		if !strings.Contains(change.Object, ">") && !strings.Contains(change.Detail, "storage") {
			t.Errorf("%s lies on the disk", change.Object)
		}
	}
}
