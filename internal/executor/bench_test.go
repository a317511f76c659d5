package executor

import (
	"strconv"
	"sync"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// BenchmarkAttempts measures work taken, computed, reported and acknowledged,
// with an owner that answers at once.
func BenchmarkAttempts(b *testing.B) {
	o := real(b)
	var wg sync.WaitGroup
	wg.Add(b.N)
	for p := range 4 {
		stop, err := o.Results(p, func(data []byte, reply func([]byte)) {
			id := data[len(`{"type":"ops.v1.result","op_id":"`):]
			for i, c := range id {
				if c == '"' {
					id = id[:i]
					break
				}
			}
			reply([]byte(`{"type":"ops.v1.result_ack","op_id":"` + string(id) + `","attempt":1,"accepted":true}`))
			wg.Done()
		})
		if err != nil {
			b.Fatal(err)
		}
		defer stop()
	}
	out := o.NewEmitter()
	for i := range b.N {
		w := work("op-" + strconv.Itoa(i))
		w.Partition = i % 4
		body, err := op.Marshal(w)
		if err != nil {
			b.Fatal(err)
		}
		out.Add(bus.WorkMsg(op.DefaultPool, w.Operation.Type, w.Partition, w.Operation.Target, body))
	}
	if err := out.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	start(b, Config{Bus: o})
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "attempts/s")
}
