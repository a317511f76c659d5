package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

func TestPublishDeduplicates(t *testing.T) {
	_, b := single(t, small())
	first, err := b.Publish(t.Context(), bus.SubmitSubject("a"), []byte("1"), "op-1", nil)
	must(t, err)
	h := nats.Header{bus.HeaderCausedBy: {"op-0"}}
	again, err := b.Publish(t.Context(), bus.SubmitSubject("a"), []byte("1"), "op-1", h)
	must(t, err)
	if first.Duplicate || !again.Duplicate || again.Seq != first.Seq || first.Stream != bus.StreamIntake {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if len(h) != 1 {
		t.Errorf("the caller's header was modified: %v", h)
	}
}

func TestBackpressure(t *testing.T) {
	l := small()
	l.MaxIntakeMsgs = 10
	_, b := single(t, l)
	for i := range 10 {
		_, err := b.Publish(t.Context(), bus.SubmitSubject(fmt.Sprint(i)), nil, "", nil)
		must(t, err)
	}
	if _, err := b.Publish(t.Context(), bus.SubmitSubject("x"), nil, "x", nil); !errors.Is(err, bus.ErrIntakeFull) {
		t.Fatalf("message 11 of 10: %v, want ErrIntakeFull", err)
	}
	p := bus.PartitionOf("0", l.Partitions)
	last, err := b.LastIntake(t.Context(), p)
	must(t, err)
	must(t, b.TrimIntake(t.Context(), p, last))
	if ack, err := b.Publish(t.Context(), bus.SubmitSubject("x"), nil, "x", nil); err != nil || ack.Duplicate {
		t.Fatalf("after a trim: %+v, %v; a refused id must not count as seen", ack, err)
	}
}

func TestBackpressureByBytes(t *testing.T) {
	l := small()
	l.MaxIntakeBytes = 64 << 10
	_, b := single(t, l)
	body := make([]byte, 10<<10)
	for range 6 {
		_, err := b.Publish(t.Context(), bus.SubmitSubject("a"), body, "", nil)
		must(t, err)
	}
	if _, err := b.Publish(t.Context(), bus.SubmitSubject("a"), body, "", nil); !errors.Is(err, bus.ErrIntakeFull) {
		t.Fatalf("beyond the limit: %v, want ErrIntakeFull", err)
	}
}

func TestPublishWithoutServer(t *testing.T) {
	s, b := single(t, small())
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.Publish(ctx, bus.SubmitSubject("a"), nil, "", nil)
	if !errors.Is(err, bus.ErrUnknownOutcome) {
		t.Fatalf("publish to nobody: %v, want ErrUnknownOutcome", err)
	}
}

func TestTrimLeavesOthers(t *testing.T) {
	_, b := single(t, small())
	seqs := map[int][]uint64{}
	for i := range 40 {
		target := fmt.Sprint("t", i)
		ack, err := b.Publish(t.Context(), bus.SubmitSubject(target), nil, "", nil)
		must(t, err)
		p := bus.PartitionOf(target, 4)
		seqs[p] = append(seqs[p], ack.Seq)
	}
	cut := seqs[1][len(seqs[1])/2]
	must(t, b.TrimIntake(t.Context(), 1, cut))
	must(t, b.TrimIntake(t.Context(), 1, cut))
	must(t, b.TrimIntake(t.Context(), 2, 0))
	for p, want := range seqs {
		if p == 1 {
			want = want[len(want)/2+1:]
		}
		f, err := b.Intake(t.Context(), p, 0)
		must(t, err)
		for _, seq := range want {
			if m := <-f.C(); m.Seq != seq {
				t.Fatalf("partition %d: sequence %d, want %d", p, m.Seq, seq)
			}
		}
	}
	must(t, b.TrimIntake(t.Context(), 1, 1000))
	if last, err := b.LastIntake(t.Context(), 1); err != nil || last != 0 {
		t.Fatalf("last of an empty partition: %d, %v", last, err)
	}
}
