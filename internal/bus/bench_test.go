package bus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func BenchmarkJournalAppend(b *testing.B) {
	for _, size := range []int{256, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			_, s := single(b, small())
			body := make([]byte, size)
			last := uint64(0)
			for n := 0; b.Loop(); n++ {
				var err error
				if last, _, err = s.JournalAppend(b.Context(), 0, fmt.Sprint(n), body, last); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEmitter is one message a round, in steps of 500.
func BenchmarkEmitter(b *testing.B) {
	body := make([]byte, 256)
	kinds := map[string]func(e *bus.Emitter, n int){
		"view":         func(e *bus.Emitter, n int) { e.Add(bus.EntityMsg(fmt.Sprint(n%1000), body)) },
		"guarded-view": func(e *bus.Emitter, n int) { e.At(uint64(n + 1)); e.Add(bus.EntityMsg(fmt.Sprint(n%1000), body)) },
		"record":       func(e *bus.Emitter, n int) { e.At(uint64(n + 1)); e.Add(bus.RecordMsg(fmt.Sprint(n/2), body)) },
		"event": func(e *bus.Emitter, n int) {
			e.Add(bus.EventMsg(bus.EventSubject(op.EventSubmitted, fmt.Sprint(n%1000)), "", body))
		},
		"event-with-id": func(e *bus.Emitter, n int) {
			e.Add(bus.EventMsg(bus.EventSubject(op.EventSubmitted, fmt.Sprint(n%1000)), fmt.Sprint("event-id-of-usual-length-", n), body))
		},
		"work": func(e *bus.Emitter, n int) { e.Add(bus.WorkMsg(op.DefaultPool, "t", 0, fmt.Sprint(n%1000), body)) },
	}
	for _, kind := range []string{"view", "guarded-view", "record", "event", "event-with-id", "work"} {
		b.Run(kind, func(b *testing.B) {
			_, s := single(b, small())
			e := emitter(b, s)
			for n := 0; b.Loop(); n++ {
				kinds[kind](e, n)
				if n%500 == 499 {
					if err := e.Flush(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := e.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkIntakeFeed(b *testing.B) {
	l := small()
	l.Partitions, l.MaxIntakeMsgs = 16, 0
	_, s := single(b, l)
	e := emitter(b, s)
	const n = 160_000
	for i := range n {
		e.Add(&nats.Msg{Subject: bus.SubmitSubject(fmt.Sprint("t", i)), Data: make([]byte, 256)})
	}
	if err := e.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	last, err := s.LastIntake(b.Context(), 3)
	if err != nil {
		b.Fatal(err)
	}
	total := 0
	begin := time.Now()
	for b.Loop() {
		f, err := s.Intake(b.Context(), 3, 0)
		if err != nil {
			b.Fatal(err)
		}
		for m := range f.C() {
			total++
			if m.Seq == last {
				break
			}
		}
	}
	b.ReportMetric(float64(total)/time.Since(begin).Seconds(), "msgs/s")
}
