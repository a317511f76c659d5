package bus_test

import (
	"encoding/json"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// What is asked of a partition gets there, once, through the transform of the
// server.
func TestControlReachesItsPartition(t *testing.T) {
	l := small()
	l.Partitions = 64
	_, b := single(t, l)
	e := emitter(t, b)
	no := false
	for p := range l.Partitions {
		for range 2 {
			m, err := b.ControlMsg(p, "c-1", bus.Control{Ancestors: []string{"a", "b"}, Cascade: &no})
			must(t, err)
			m.Header.Set("Nats-Msg-Id", m.Header.Get("Nats-Msg-Id")+m.Subject)
			e.Add(m)
		}
	}
	must(t, e.Flush(t.Context()))
	for p := range l.Partitions {
		f, err := b.Intake(t.Context(), p, 0)
		must(t, err)
		m := <-f.C()
		var got bus.Control
		must(t, json.Unmarshal(m.Data, &got))
		if m.Kind != bus.KindControl || len(got.Ancestors) != 2 || got.Ancestors[1] != "b" || *got.Cascade {
			t.Fatalf("partition %d: %s %s", p, m.Kind, m.Data)
		}
		if last, err := b.LastIntake(t.Context(), p); err != nil || last != m.Seq {
			t.Fatalf("partition %d holds more than one message: %d behind %d, %v", p, last, m.Seq, err)
		}
	}
}
