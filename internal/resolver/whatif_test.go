package resolver

import (
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
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
		p := &partition{bus: b, kinship: newKinship(b), asked: make(chan question, 1)}
		begun := time.Now()
		go p.seek(t.Context(), question{until: begun.Add(kinPatience)}, "nobody")
		q := <-p.asked
		if took := time.Since(begun); took != kinPatience || !q.sought || len(q.kin) != 1 || !q.kin[0].Unknown || q.kin[0].OpID != "nobody" {
			t.Errorf("after %s: %+v", took, q)
		}
	})
}
