package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

// A thousand entities whose handlers hang at once all serve their next operation
// again, and nobody does anything about it. Where each has a slot, and its handler
// minds nothing, that is within a lease and a second; where most wait for a slot,
// some get one just before their lease is over, and then have another one.
func TestAThousandKeysHang(t *testing.T) {
	t.Run("each in a slot", func(t *testing.T) { keysHang(t, 1000, 1000, 1) })
	t.Run("waiting for slots", func(t *testing.T) { keysHang(t, 250, 64, 2) })
}

func keysHang(t *testing.T, keys, slots int, leases time.Duration) {
	const lease = 5 * time.Second
	var release chan struct{} // of the bubble
	hang := func(ctx context.Context, _ *worker.Job[Paint]) (worker.Effect, error) {
		if slots < keys {
			<-ctx.Done()
			return worker.Effect{}, ctx.Err()
		}
		<-release // it minds nothing
		return worker.Set("colour", "none"), nil
	}
	optest.Bubble(t, func(t *testing.T, s *optest.System) {
		release = make(chan struct{})
		var hung, next []string
		for i := range keys {
			id := fmt.Sprintf("wall-%d", i)
			s.MustSubmit(op.Operation{ID: "make-" + id, Type: op.TypeCreate, Target: id})
		}
		s.Quiesce()
		began := time.Now()
		none := 0
		for i := range keys {
			id := fmt.Sprintf("wall-%d", i)
			ids := s.MustSubmitBatch(
				op.Operation{ID: "hang-" + id, Type: "paint", Target: id, Priority: op.High, MaxRetries: &none},
				op.Operation{
					ID: "next-" + id, Type: op.TypeModifyField, Target: id, OnConflict: op.OnConflictQueue,
					Params: json.RawMessage(`{"field_name":"x","new_value":1}`),
				},
			)
			hung, next = append(hung, ids[0]), append(next, ids[1])
		}
		slowest := time.Duration(0)
		for _, id := range next {
			r := s.Await(id)
			if r.Status != op.Succeeded {
				t.Fatalf("%s is %s %s %+v", id, r.Status, r.Reason, r.Error)
			}
			slowest = max(slowest, r.UpdatedAt.Sub(began))
		}
		t.Logf("%d keys with %d slots: the last next operation has ended after %s of a lease of %s", keys, slots, slowest, lease)
		if slowest > leases*lease+time.Second {
			t.Errorf("a key was free after %s", slowest)
		}
		for _, id := range hung {
			r := s.Await(id)
			if r.Status != op.Rejected || r.Error == nil || r.Error.Code != "timeout" {
				t.Fatalf("%s is %s %s %+v at attempt %d", id, r.Status, r.Reason, r.Error, r.Attempt)
			}
		}
		close(release)
		s.Verify(t)
	},
		optest.WithType("", hang), optest.WithConcurrency(slots),
		optest.WithPolicy(`{"max_executing_per_partition":1000,"attempt_timeout":"5s"}`),
	)
}
