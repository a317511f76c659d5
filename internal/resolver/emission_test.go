package resolver

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
)

// slate is a log that only keeps what an emission says of marks.
type slate struct {
	Log
	order uint64
	marks map[uint64]string // by the step's journal sequence
	snaps int
}

func (s *slate) Outbox() Outbox              { return s }
func (s *slate) At(seq uint64)               { s.order = seq }
func (s *slate) Flush(context.Context) error { return nil }
func (s *slate) Close()                      {}

// Add keeps the first value of a step, as an emitter does.
func (s *slate) Add(m *nats.Msg) {
	if s.marks[s.order] == "" {
		s.marks[s.order] = string(m.Data)
	}
}

func (s *slate) SaveSnapshot(context.Context, int, uint64, uint64, []byte) error {
	s.snaps++
	return nil
}

// A snapshot is kept in the middle of what is told together, with a mark of its
// own. The mark of what follows must not be taken for the same.
func TestTheMarkPassesASnapshot(t *testing.T) {
	log := &slate{marks: map[uint64]string{}}
	var nobody *metrics.Registry
	e := newEmission(log, realWorld(), 0, 3, slog.New(slog.DiscardHandler), nobody.Resolver())
	err := e.emit(t.Context(),
		outputs{step: 4, seq: 40}, outputs{step: 4, seq: 40, saved: &savedState{State: new(arbiter.State)}}, outputs{step: 5, seq: 50})
	if err == nil {
		err = e.mark(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := []string{log.marks[40], log.marks[50]}; log.snaps != 1 || !slices.Equal(got, []string{"4", "5"}) {
		t.Errorf("%d snapshots, and the marks are %q", log.snaps, got)
	}
}
