package optest_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
)

// TestBubbleClockIsFake is a canary: it hangs, or takes ten minutes, when something
// in a new version of the server or of a role does not live in a bubble.
func TestBubbleClockIsFake(t *testing.T) {
	const window = 10 * time.Minute
	wall := time.Now()
	optest.Bubble(t, func(t *testing.T, s *optest.System) {
		s.Do(op.Operation{Type: op.TypeCreate, Target: "user-42", Params: json.RawMessage(`{"fields":{"n":0}}`)})
		begin := time.Now()
		id := s.MustSubmit(op.Operation{Type: op.TypeVersion, Target: "user-42"})
		if r := s.Await(id); r.Status != op.Succeeded {
			t.Fatalf("%s %s", r.Status, r.Reason)
		}
		if d := time.Since(begin); d < window || d > window+time.Minute {
			t.Errorf("a window of %s took %s", window, d)
		}
		s.Verify(t)
	}, optest.WithPolicy(`{"window_by_type":{"version_entity":"10m"}}`))
	t.Logf("%s passed in %s", window, time.Since(wall))
}
