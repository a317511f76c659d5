package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

func appendStep(t *testing.T, b *bus.Bus, p int, id string, expected uint64) uint64 {
	t.Helper()
	seq, out, err := b.JournalAppend(t.Context(), p, id, []byte("data of "+id), expected)
	if err != nil || out != bus.Committed {
		t.Fatalf("append %s behind %d: %v, %v", id, expected, out, err)
	}
	return seq
}

func TestJournalAppendAndRead(t *testing.T) {
	_, b := single(t, small())
	if _, ok, err := b.JournalLast(t.Context(), 1); ok || err != nil {
		t.Fatalf("an empty journal has a last entry: %v", err)
	}
	if first, last, err := b.JournalBounds(t.Context()); first != 1 || last != 0 || err != nil {
		t.Fatalf("an empty journal has bounds %d and %d: %v", first, last, err)
	}
	var last, other uint64
	var want []string
	for i := range 50 {
		id := fmt.Sprint("s", i)
		last = appendStep(t, b, 1, id, last)
		other = appendStep(t, b, 2, "o"+id, other)
		want = append(want, id)
	}
	e, ok, err := b.JournalLast(t.Context(), 1)
	if err != nil || !ok || e.ID != "s49" || e.Seq != last || e.Partition != 1 || string(e.Data) != "data of s49" || e.Time.IsZero() {
		t.Fatalf("last: %+v, %v, %v", e, ok, err)
	}
	if got, err := b.JournalGet(t.Context(), last); err != nil || got.ID != e.ID || got.Partition != 1 {
		t.Errorf("get: %+v, %v", got, err)
	}
	if _, err := b.JournalGet(t.Context(), 1000); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("get beyond the end: %v", err)
	}
	var got []string
	for e, err := range b.JournalRead(t.Context(), 1, 0) {
		must(t, err)
		got = append(got, e.ID)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read %v", got)
	}
	n := 0
	for e, err := range b.JournalRead(t.Context(), -1, 20) {
		must(t, err)
		if n++; e.Seq != uint64(20+n) {
			t.Fatalf("sequence %d at place %d after 20", e.Seq, n)
		}
	}
	if n != 80 {
		t.Errorf("%d entries of all partitions after 20, want 80", n)
	}
	for range b.JournalRead(t.Context(), 1, last) {
		t.Error("an entry behind the last one")
	}
}

func TestJournalFence(t *testing.T) {
	_, b := single(t, small())
	first := appendStep(t, b, 0, "a1", 0)
	second := appendStep(t, b, 0, "b1", first)
	for name, c := range map[string]struct {
		id       string
		expected uint64
		out      bus.Outcome
		seq      uint64
	}{
		"stale":                            {"a2", first, bus.Deposed, 0},
		"stale from nothing":               {"a3", 0, bus.Deposed, 0},
		"our own, answer lost":             {"b1", first, bus.Committed, second},
		"our own, deposed since, answered": {"a1", 0, bus.Committed, first},
	} {
		seq, out, err := b.JournalAppend(t.Context(), 0, c.id, nil, c.expected)
		if err != nil || out != c.out || seq != c.seq {
			t.Errorf("%s: %d, %v, %v; want %d, %v", name, seq, out, err, c.seq, c.out)
		}
	}
	if e, _, err := b.JournalLast(t.Context(), 0); err != nil || e.Seq != second {
		t.Errorf("a refused step was stored: %+v, %v", e, err)
	}
}

func TestJournalAppendWithoutServer(t *testing.T) {
	s, b := single(t, small())
	seq := appendStep(t, b, 0, "a", 0)
	s.Stop()
	_, out, err := b.JournalAppend(within(t, 100*time.Millisecond), 0, "b", nil, seq)
	if out != bus.Unknown || !errors.Is(err, bus.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("append to nobody: %v, %v", out, err)
	}
}

func TestJournalRefusesTooLarge(t *testing.T) {
	_, b := single(t, small())
	_, out, err := b.JournalAppend(within(t, 5*time.Second), 0, "b", make([]byte, 2<<20), 0)
	if out != bus.Unknown || err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("2 MiB: %v, %v; want an error at once", out, err)
	}
}

func TestJournalReadAfterCompaction(t *testing.T) {
	_, b := single(t, small())
	var seqs []uint64
	var last, other uint64
	for i := range 10 {
		last = appendStep(t, b, 0, fmt.Sprint(i), last)
		seqs = append(seqs, last)
		other = appendStep(t, b, 1, fmt.Sprint(i), other)
	}
	must(t, b.CompactJournal(t.Context(), 0, seqs[6]))
	var got []uint64
	for e, err := range b.JournalRead(t.Context(), 0, 0) {
		must(t, err)
		got = append(got, e.Seq)
	}
	if fmt.Sprint(got) != fmt.Sprint(seqs[7:]) {
		t.Errorf("read %v, want %v", got, seqs[7:])
	}
	if seq := appendStep(t, b, 0, "next", last); seq <= last {
		t.Errorf("appended at %d", seq)
	}
	must(t, b.CompactJournal(t.Context(), 0, 1<<40))
	if _, ok, err := b.JournalLast(t.Context(), 0); !ok || err != nil {
		t.Errorf("compaction has removed the last entry, which is the fence: %v", err)
	}
}

func TestJournalFollow(t *testing.T) {
	_, b := single(t, small())
	last := appendStep(t, b, 0, "0", 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	last = appendStep(t, b, 0, "1", last)
	n := 1
	for e, err := range b.JournalFollow(ctx, last-1) {
		must(t, err)
		if e.ID != fmt.Sprint(n) || e.Seq != last {
			t.Fatalf("entry %+v, want %d", e, n)
		}
		if n++; n == 20 {
			cancel() // ends the iteration, without an error
			continue
		}
		last = appendStep(t, b, 0, fmt.Sprint(n), last)
	}
	if n != 20 {
		t.Errorf("ended at %d", n)
	}
}

// TestJournalAppendWaits shows that appends wait for a server that is away.
func TestJournalAppendWaits(t *testing.T) {
	c := cluster(t, small())
	b := open(t, join(t, c))
	seq := appendStep(t, b, 0, "a", 0)
	leader := c.Leader(bus.StreamJournal)
	c.StopServer(leader)
	seq = appendStep(t, b, 0, "b", seq)
	must(t, c.StartServer(leader))
	appendStep(t, b, 0, "c", seq)
}
