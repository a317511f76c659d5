package verify_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

// TestEventsAgedOut: a system that was idle for longer than events are kept has
// told everything and holds nothing of it. A feed that was never written is lost.
func TestEventsAgedOut(t *testing.T) {
	ctx, b := history(t)
	s, err := b.JetStream().Stream(ctx, bus.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	if r := check(ctx, t, b, verify.Options{Quiescent: true}); !r.OK() || r.Events != 0 || r.Records != 9 || len(r.Unchecked) > 0 {
		t.Errorf("%v, %d events and %d records, not checked: %v", r.ByInvariant, r.Events, r.Records, r.Unchecked)
	}
	if err := b.JetStream().DeleteStream(ctx, bus.StreamEvents); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Setup(ctx, b.Conn(), b.Layout()); err != nil {
		t.Fatal(err)
	}
	if r := check(ctx, t, b, verify.Options{}); r.ByInvariant[audit.ViewsEventLost] == 0 {
		t.Errorf("nobody misses the events: %v", r.ByInvariant)
	}
}

// TestFeedsStandStill: a feed that says nothing for a while, as while its stream has no
// leader, is no proof that what it would have said is lost, or was invented.
func TestFeedsStandStill(t *testing.T) {
	ctx, b := history(t)
	r := check(ctx, t, b, verify.Options{}.Hasty(time.Nanosecond))
	if unchecked := strings.Join(r.Unchecked, "\n"); !r.OK() || !strings.Contains(unchecked, "the events: the feed stood still at ") {
		t.Errorf("not checked: %q, violations %v", r.Unchecked, r.ByInvariant)
	}
}

// TestAcksComeBeforeTheViews has the journal grow while what was acknowledged is
// waited for. The outputs of those steps have to be waited for as well, or the
// views are held against a history that they were never told.
func TestAcksComeBeforeTheViews(t *testing.T) {
	_, nc := natstest.One(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l := bus.DefaultLayout()
	l.Partitions = 2
	if _, err := bus.Setup(ctx, nc, l); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	write := func(partition int, id, step string) {
		t.Helper()
		if _, out, err := b.JournalAppend(ctx, partition, id, []byte(step), 0); out != bus.Committed {
			t.Fatal(out, err)
		}
	}
	if _, err := b.Publish(ctx, bus.SubmitSubject("e0"), []byte(`{"op_id":"a","op_type":"version_entity"}`), "", nil); err != nil {
		t.Fatal(err)
	}
	home := bus.PartitionOf("e0", l.Partitions)
	write(1-home, "first", `{}`) // asks nobody to tell anything
	o := verify.Options{
		Patience: 500 * time.Millisecond,
		Acks:     strings.NewReader(`{"op_id":"a","outcome":"acknowledged"}`),
	}
	o.Progress = func(read, _ uint64) {
		if read == 1 { // the end of the journal was asked for before that
			write(home, "second", `{"step":1,"cursor":1}`)
		}
	}
	if r := check(ctx, t, b, o); r.To != 2 || r.Acks != 1 || !slices.Equal(r.Lagging, []int{home}) {
		t.Errorf("read up to %d with %d acknowledgements, lagging %v, %v", r.To, r.Acks, r.Lagging, r.ByInvariant)
	}
}
