package resolver

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Where a partition has no owner, a search for an ancestor goes on for ever. A dry
// run does not wait for that: the ancestor counts as unknown.
func TestADryRunDoesNotWaitForASearchThatCannotEnd(t *testing.T) {
	natstest.Run(t, func(t *testing.T, s *natstest.Server) {
		nc := s.Connect(t)
		layout := bus.DefaultLayout()
		layout.Partitions = 1
		if _, err := bus.Setup(t.Context(), nc, layout); err != nil {
			t.Fatal(err)
		}
		b, err := bus.Open(t.Context(), nc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish(t.Context(), bus.SubmitSubject("parent"), []byte("{}"), "", nil); err != nil {
			t.Fatal(err)
		}
		p := &partition{bus: onBus{b}, world: realWorld(), kinship: newKinship(onBus{b}, realWorld()), asked: make(chan question, 1)}
		begun := time.Now()
		go p.seek(t.Context(), question{until: begun.Add(kinPatience)}, "nobody")
		q := <-p.asked
		if took := time.Since(begun); took != kinPatience || !q.sought || len(q.kin) != 1 || !q.kin[0].Unknown || q.kin[0].OpID != "nobody" {
			t.Errorf("after %s: %+v", took, q)
		}
	})
}

// Questions never wait for a busy partition: one too many is refused.
func TestDryRunsAreBounded(t *testing.T) {
	var nobody *metrics.Registry
	p := &partition{asked: make(chan question, 1), cfg: &Config{Metrics: nobody.Resolver()}}
	var answers [][]byte
	for range 2 {
		p.whatIf(t.Context(), []byte("{}"), func(b []byte) { answers = append(answers, b) })
	}
	if len(answers) != 1 {
		t.Fatalf("%d of 2 were answered while nobody served them, want the second", len(answers))
	}
	var e op.Error
	if err := json.Unmarshal(answers[0], &e); err != nil || e.Code != op.CodeOverloaded || e.RetryAfterMS == 0 {
		t.Errorf("%s, %v", answers[0], err)
	}
}
