package bus_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
)

// ghost plants a lease that the server never lets run out, as one that was killed
// at the wrong moment does.
func ghost(t *testing.T, b *bus.Bus, name string) {
	t.Helper()
	kv, err := b.JetStream().KeyValue(t.Context(), "OPS_LEASES")
	must(t, err)
	_, err = kv.Put(t.Context(), "resolver."+name, []byte("of a process that is no more"))
	must(t, err)
}

// A lease that the server keeps for ever keeps no partition: who was silent while
// the others were heard is gone, and so is the lease.
func TestALeaseThatNeverRunsOutIsBuried(t *testing.T) {
	bubble(t, func(t *testing.T, s *natstest.Server, b *bus.Bus) {
		const ttl = 2 * time.Second
		ghost(t, b, "ghost")
		m, err := b.Join(t.Context(), "a", ttl)
		must(t, err)
		if got := m.Members(); !slices.Equal(got, []string{"a", "ghost"}) {
			t.Fatalf("at first: %v", got)
		}
		if d := waitMembers(t, time.Minute, m, "a"); d < ttl || d > 2*ttl {
			t.Errorf("it was seen to be gone after %s, with a lease of %s", d, ttl)
		}
		late, err := open(t, s.Connect(t)).Join(t.Context(), "b", ttl)
		must(t, err)
		if got := late.Members(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("who comes later sees %v: the lease is still there", got)
		}
		// Leases of different lengths do not take each other for dead.
		slow, err := open(t, s.Connect(t)).Join(t.Context(), "c", 10*time.Second)
		must(t, err)
		waitMembers(t, time.Second, m, "a", "b", "c")
		<-m.Changed()
		minute := time.NewTimer(time.Minute)
		select {
		case <-minute.C:
		case <-m.Lost():
			t.Error("the short lease was lost")
		case <-slow.Lost():
			t.Error("the long lease was lost")
		}
		for _, v := range []*bus.Membership{m, late, slow} {
			if got := v.Members(); !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Errorf("after a minute: %v", got)
			}
		}
	})
}

// Whoever comes back under the name of a lease that never runs out gets it.
func TestANameIsNotLostToAGhost(t *testing.T) {
	bubble(t, func(t *testing.T, _ *natstest.Server, b *bus.Bus) {
		ghost(t, b, "a")
		started := time.Now()
		if _, err := b.Join(within(t, time.Minute), "a", 2*time.Second); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(started); d < 4*time.Second || d > 6*time.Second {
			t.Errorf("it took %s, with a lease of 2s", d)
		}
	})
}

// A deletion that comes too late does not hit the lease of who has come back: it
// names the revision that it means.
func TestABurialDoesNotHitWhoIsBack(t *testing.T) {
	bubble(t, func(t *testing.T, s *natstest.Server, b *bus.Bus) {
		ghost(t, b, "b")
		var late atomic.Bool
		line := &faulty{to: s, lose: func(subject, reply string) bool {
			if subject == "$KV.OPS_LEASES.resolver.b" && reply == "" && !late.Swap(true) {
				ghost(t, b, "b") // it is back before the deletion arrives
			}
			return false
		}}
		m, err := open(t, line.connect(t)).Join(t.Context(), "a", time.Second)
		must(t, err)
		<-m.Changed()
		waitMembers(t, time.Minute, m, "a", "b")
		eventually(t, time.Minute, "the deletion", late.Load)
		time.Sleep(100 * time.Millisecond)
		kv, err := b.JetStream().KeyValue(t.Context(), "OPS_LEASES")
		must(t, err)
		if _, err := kv.Get(t.Context(), "resolver.b"); err != nil {
			t.Errorf("the lease of who is back: %v", err)
		}
	})
}
