package bus_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// TestJournalBusyIsNotDeposed answers an append as a server of a cluster does while
// another write to the subject is in flight. That says nothing about who owns the
// partition: the same step is sent again, and stored.
func TestJournalBusyIsNotDeposed(t *testing.T) {
	s, b := single(t, small())
	var refused atomic.Int32
	line := &faulty{to: s, lose: func(subject, reply string) bool {
		if subject != bus.JournalSubject(0) || refused.Add(1) > 3 {
			return false
		}
		busy := `{"error":{"code":400,"err_code":10164,"description":"last sequence by subject mismatch"},"stream":"","seq":0}`
		if err := b.Conn().Publish(reply, []byte(busy)); err != nil {
			t.Error(err)
		}
		return true
	}}
	writer := open(t, line.connect(t))
	seq, out, err := writer.JournalAppend(t.Context(), 0, "a", nil, 0)
	if err != nil || out != bus.Committed {
		t.Fatalf("busy is taken for %v (%v)", out, err)
	}
	appendStep(t, writer, 0, "b", seq)
	var ids []string
	for e, err := range b.JournalRead(t.Context(), 0, 0) {
		must(t, err)
		ids = append(ids, e.ID)
	}
	if got := strings.Join(ids, " "); !slices.Equal(ids, []string{"a", "b"}) || refused.Load() < 4 {
		t.Errorf("journal %s after %d answers", got, refused.Load())
	}
}
