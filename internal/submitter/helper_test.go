package submitter

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const longEnough = 20 * time.Second

// partitions of every test's server.
const testPartitions = 4

func connect(t testing.TB) *bus.Bus {
	t.Helper()
	_, nc := natstest.One(t)
	l := bus.DefaultLayout()
	l.Partitions, l.MaxIntakeBytes = testPartitions, 0
	if _, err := bus.Setup(t.Context(), nc, l); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stored is an operation as the intake holds it.
type stored struct {
	op.Operation
	seq   uint64
	index int
	kind  bus.IntakeKind
	trace string
}

// intake reads everything that is in the intake of all partitions, in the order
// of the stream's sequence.
func intake(t testing.TB, b *bus.Bus) []stored {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	var all []stored
	for p := range b.Layout().Partitions {
		last, err := b.LastIntake(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		if last == 0 {
			continue
		}
		feed, err := b.Intake(ctx, p, 0)
		if err != nil {
			t.Fatal(err)
		}
		for m := range feed.C() {
			all = append(all, operations(t, m, p)...)
			if m.Seq == last {
				break
			}
		}
	}
	return all
}

func operations(t testing.TB, m bus.IntakeMsg, partition int) []stored {
	t.Helper()
	var ops []op.Operation
	var err error
	if m.Kind == bus.KindBulk {
		var errs []*op.Error
		ops, errs, err = op.DecodeBulk(m.Data, op.BuiltinTypes())
		for _, e := range errs {
			if e != nil {
				t.Errorf("in the bulk of %s: %v", m.Key, e)
			}
		}
	} else {
		ops, err = op.Decode(m.Data, m.Key, op.BuiltinTypes())
	}
	if err != nil {
		t.Fatalf("intake %d: %v", m.Seq, err)
	}
	out := make([]stored, len(ops))
	for i := range ops {
		if got := bus.PartitionOf(ops[i].Target, testPartitions); got != partition {
			t.Errorf("%s of partition %d is in partition %d", ops[i].ID, got, partition)
		}
		out[i] = stored{ops[i], m.Seq, i, m.Kind, m.Header.Get(HeaderTrace)}
	}
	return out
}

// messages is how many intake messages are stored.
func messages(t testing.TB, b *bus.Bus) uint64 {
	t.Helper()
	s, err := b.JetStream().Stream(t.Context(), bus.StreamIntake)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func modify(id, target string) op.Operation {
	return op.Operation{
		ID: id, Type: op.TypeModifyField, Target: target, Priority: op.Normal, OnConflict: op.OnConflictReject,
		Params: json.RawMessage(`{"field_name":"counter","new_value":1}`),
	}
}

// put writes a value into a view.
func put(t testing.TB, b *bus.Bus, m *nats.Msg) {
	t.Helper()
	if _, err := b.Publish(t.Context(), m.Subject, m.Data, "", m.Header); err != nil {
		t.Error(err)
	}
}

func code(err error) string {
	if e := op.AsError(err); e != nil {
		return e.Code
	}
	return ""
}
