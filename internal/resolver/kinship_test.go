package resolver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// While a partition has not consumed what stands before the child, nobody knows
// that an ancestor is unknown, however long that takes.
func TestASearchNeverGuesses(t *testing.T) {
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
		ack, err := b.Publish(t.Context(), bus.SubmitSubject("parent"), []byte("{}"), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		k := newKinship(b)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answers := make(chan arbiter.Kin, 2)
		go k.find(ctx, []string{"p1", "nobody"}, ack.Seq+1, func(v arbiter.Kin) { answers <- v })
		<-time.After(10 * time.Minute) // of the bubble's time
		synctest.Wait()
		if len(answers) > 0 {
			t.Fatalf("%+v, while the partition has no owner", <-answers)
		}
		k.add(&op.Operation{ID: "p1", Priority: op.High})
		if v := <-answers; v.OpID != "p1" || v.Unknown || v.Priority != op.High {
			t.Errorf("the parent: %+v", v)
		}
		k.passed(0, ack.Seq+1)
		if v := <-answers; v.OpID != "nobody" || !v.Unknown || v.Upto != ack.Seq+1 {
			t.Errorf("nobody: %+v", v)
		}
	})
}
