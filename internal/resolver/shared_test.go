package resolver

import (
	"encoding/json"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

// An outcome that is being shared is part of the snapshot, until the partition
// does something else.
func TestAnOutcomeIsKeptAsLongAsItIsShared(t *testing.T) {
	p := &partition{shared: map[string]outcome{}}
	p.noteShared(&arbiter.Step{Number: 1, In: []arbiter.Input{{}}, Out: []arbiter.Effect{
		{Coalesced: &arbiter.Coalesced{OpID: "two", Into: "one"}},
		{Coalesced: &arbiter.Coalesced{OpID: "three", Into: "two"}},
		{Coalesced: &arbiter.Coalesced{OpID: "five", Into: "four"}},
	}})
	p.noteShared(&arbiter.Step{
		Number: 2,
		In:     []arbiter.Input{{}, {Result: &arbiter.Result{Change: json.RawMessage(`{"kind":"modified","base":6,"from":3}`)}}},
		Out:    []arbiter.Effect{{Succeeded: &arbiter.Succeeded{OpID: "one", Input: 1}}, {Succeeded: &arbiter.Succeeded{OpID: "alone", Input: 1}}},
	})
	data, err := json.Marshal(savedState{Shared: p.shared})
	if err != nil {
		t.Fatal(err)
	}
	var saved savedState
	if err := json.Unmarshal(data, &saved); err != nil {
		t.Fatal(err)
	}
	p = &partition{shared: saved.Shared}
	p.noteShared(&arbiter.Step{Number: 3, Out: []arbiter.Effect{{Shared: &arbiter.Shared{OpID: "two", With: "one"}}}})
	for _, id := range []string{"one", "two"} {
		if o := p.shared[id]; o.Version != 3 || o.Revision != 7 {
			t.Errorf("the outcome of %s: %+v", id, o)
		}
	}
	p.noteShared(&arbiter.Step{Number: 4, In: []arbiter.Input{{}}})
	if _, waits := p.shared["four"]; len(p.shared) != 1 || !waits {
		t.Errorf("what is over is kept: %+v", p.shared)
	}
	p.noteShared(&arbiter.Step{Number: 5, In: []arbiter.Input{{}}, Out: []arbiter.Effect{{Cancelled: &arbiter.Cancelled{OpID: "four"}}}})
	if len(p.shared) > 0 {
		t.Errorf("what is over is kept: %+v", p.shared)
	}
}
