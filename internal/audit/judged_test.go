package audit_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
)

// TestMachineBreaksNoInvariant stops at the first life in which something is wrong,
// and a broken machine may panic before it is judged. Here each life is judged by
// what is in its journal when it ends, however it ends, and every invariant that is
// broken is named once. The mutants of internal/mutants are caught by it.
func TestEveryLifeIsJudged(t *testing.T) {
	broken := map[string]string{} // by invariant, the first case
	for seed := range min(*lives, 16) {
		w, panicked := lifeToItsEnd(seed)
		if panicked != nil {
			t.Errorf("seed %d: %v", seed, panicked)
		}
		if w == nil {
			continue
		}
		r := w.audit(audit.Options{}, nil).Finish(panicked == nil)
		for _, v := range r.Violations {
			if _, known := broken[v.Invariant]; !known {
				broken[v.Invariant] = fmt.Sprintf("seed %d: %v", seed, v)
			}
		}
		for name, n := range r.ByInvariant { // only so many violations are told in full
			if _, known := broken[name]; !known {
				broken[name] = fmt.Sprintf("seed %d: %s, %d times", seed, name, n)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(broken)) {
		t.Error(broken[name])
	}
}

// lifeToItsEnd leads a life until everything in it has ended, or until it panics.
func lifeToItsEnd(seed uint64) (w *world, panicked any) {
	defer func() { panicked = recover() }()
	w = newWorld(seed)
	for n := range 250 {
		w.live(n)
	}
	w.drain()
	return w, nil
}
