package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// TestReplicas runs what differs between one server and three.
func TestReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	l := small()
	l.MaxIntakeMsgs = 20
	c := cluster(t, l)
	b, other := open(t, join(t, c)), open(t, join(t, c))

	t.Run("setup is idempotent", func(t *testing.T) {
		l.Replicas = 3
		changes, err := bus.Setup(t.Context(), b.Conn(), l)
		must(t, err)
		for _, c := range changes {
			if c.Action != bus.ActionUnchanged {
				t.Errorf("%s: %s (%s)", c.Object, c.Action, c.Detail)
			}
		}
	})
	t.Run("who has published can read", func(t *testing.T) {
		e := emitter(t, b)
		for i := 1; i <= 300; i++ {
			e.At(uint64(i))
			e.Add(bus.EntityMsg("a", fmt.Append(nil, i)))
			must(t, e.Flush(within(t, 10*time.Second)))
			for _, reader := range []*bus.Bus{b, other} {
				if got := entity(t, reader, "a"); got != fmt.Sprint(i) {
					t.Fatalf("read %s after writing %d", got, i)
				}
			}
		}
	})
	t.Run("a full intake says so", func(t *testing.T) {
		for i := range 20 {
			_, err := b.Publish(t.Context(), bus.SubmitSubject("a"), nil, fmt.Sprint(i), nil)
			must(t, err)
		}
		if _, err := b.Publish(t.Context(), bus.SubmitSubject("a"), nil, "21", nil); !errors.Is(err, bus.ErrIntakeFull) {
			t.Errorf("message 21 of 20: %v", err)
		}
	})
	t.Run("a death is seen", func(t *testing.T) {
		const ttl = 2 * time.Second
		m, err := b.Join(t.Context(), "a", ttl)
		must(t, err)
		ctx, die := context.WithCancel(t.Context())
		_, err = other.Join(ctx, "b", ttl)
		must(t, err)
		waitMembers(t, 2*time.Second, m, "a", "b")
		die()
		if d := waitMembers(t, 10*time.Second, m, "a"); d > ttl+1500*time.Millisecond {
			t.Errorf("after %s, with a lease of %s", d, ttl)
		}
		m2, err := other.Join(t.Context(), "b", ttl)
		must(t, err)
		waitMembers(t, 2*time.Second, m, "a", "b")
		must(t, m2.Leave(t.Context()))
		waitMembers(t, time.Second, m, "a")
		must(t, m.Leave(t.Context()))
	})
	t.Run("a large snapshot comes back", func(t *testing.T) {
		big := bytes.Repeat([]byte("state "), 400_000)
		for step := range uint64(3) {
			must(t, b.SaveSnapshot(t.Context(), 0, step+1, step+1, big))
			got, _, data, ok, err := other.LoadSnapshot(within(t, 20*time.Second), 0)
			if err != nil || !ok || got != step+1 || !bytes.Equal(data, big) {
				t.Fatalf("step %d: %d, %d bytes, %v, %v", step+1, got, len(data), ok, err)
			}
		}
	})
}
