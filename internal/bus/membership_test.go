package bus_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
)

func waitMembers(t *testing.T, d time.Duration, m *bus.Membership, want ...string) time.Duration {
	t.Helper()
	return eventually(t, d, fmt.Sprintf("members %v", want), func() bool { return slices.Equal(m.Members(), want) })
}

// bubble calls f with a set-up server under a fake clock.
func bubble(t *testing.T, f func(t *testing.T, s *natstest.Server, b *bus.Bus)) {
	t.Helper()
	natstest.Run(t, func(t *testing.T, s *natstest.Server) {
		nc := s.Connect(t)
		_, err := bus.Setup(t.Context(), nc, small())
		must(t, err)
		f(t, s, open(t, nc))
	})
}

func TestMembership(t *testing.T) {
	bubble(t, func(t *testing.T, s *natstest.Server, b *bus.Bus) {
		const ttl = 2 * time.Second
		m, err := b.Join(t.Context(), "a", ttl)
		must(t, err)
		if got := m.Members(); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("alone: %v", got)
		}
		other := open(t, s.Connect(t))
		m2, err := other.Join(t.Context(), "b", ttl)
		must(t, err)
		if got := m2.Members(); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("the second sees %v when it has joined", got)
		}
		waitMembers(t, time.Second, m, "a", "b")
		<-m.Changed()

		ctx, die := context.WithCancel(t.Context())
		_, err = open(t, s.Connect(t)).Join(ctx, "c", ttl)
		must(t, err)
		waitMembers(t, time.Second, m, "a", "b", "c")
		die()
		if d := waitMembers(t, time.Minute, m, "a", "b"); d > ttl+1500*time.Millisecond || d < ttl/2 {
			t.Errorf("a death was seen after %s, with a lease of %s", d, ttl)
		}

		must(t, m2.Leave(t.Context()))
		if d := waitMembers(t, time.Minute, m, "a"); d > 100*time.Millisecond {
			t.Errorf("a graceful leave was seen after %s", d)
		}
		must(t, m2.Leave(t.Context()))
	})
}

// TestLeaseIsRenewed lets an hour pass: with a renewal that drops the time to
// live the lease would never run out, with none it would soon.
func TestLeaseIsRenewed(t *testing.T) {
	bubble(t, func(t *testing.T, s *natstest.Server, b *bus.Bus) {
		m, err := b.Join(t.Context(), "a", 2*time.Second)
		must(t, err)
		ctx, die := context.WithCancel(t.Context())
		defer die()
		_, err = open(t, s.Connect(t)).Join(ctx, "b", 2*time.Second)
		must(t, err)
		waitMembers(t, time.Second, m, "a", "b")
		<-m.Changed()
		hour := time.NewTimer(time.Hour)
		select {
		case <-hour.C:
		case <-m.Changed():
			t.Fatalf("members changed to %v while both live", m.Members())
		case <-m.Lost():
			t.Fatal("a lease was lost that is renewed")
		}
		die()
		if d := waitMembers(t, time.Minute, m, "a"); d > 3500*time.Millisecond {
			t.Errorf("after an hour of renewals a death was seen after %s", d)
		}
	})
}

// TestLostLease removes a lease behind its holder's back.
func TestLostLease(t *testing.T) {
	bubble(t, func(t *testing.T, s *natstest.Server, b *bus.Bus) {
		m, err := b.Join(t.Context(), "a", 2*time.Second)
		must(t, err)
		kv, err := b.JetStream().KeyValue(t.Context(), "OPS_LEASES")
		must(t, err)
		must(t, kv.Delete(t.Context(), "resolver.a"))
		<-m.Lost()
		waitMembers(t, 5*time.Second, m, "a")
	})
}

// TestNamesakeWaits has a second process of the same name come up.
func TestNamesakeWaits(t *testing.T) {
	bubble(t, func(t *testing.T, s *natstest.Server, b *bus.Bus) {
		ctx, die := context.WithCancel(t.Context())
		_, err := b.Join(ctx, "a", 2*time.Second)
		must(t, err)
		again := open(t, s.Connect(t))
		if _, err := again.Join(within(t, 10*time.Second), "a", 2*time.Second); err == nil {
			t.Fatal("two holders of one name")
		}
		die()
		if _, err := again.Join(within(t, 4*time.Second), "a", 2*time.Second); err != nil {
			t.Fatalf("after the death of the first: %v", err)
		}
	})
}

func TestJoinChecksItsArguments(t *testing.T) {
	_, b := single(t, small())
	if _, err := b.Join(t.Context(), "a.b", time.Second); err == nil {
		t.Error("a name with a dot accepted")
	}
	for _, ttl := range []time.Duration{0, time.Millisecond, 1500 * time.Millisecond} {
		if _, err := b.Join(t.Context(), "a", ttl); err == nil {
			t.Errorf("a lease of %s accepted", ttl)
		}
	}
}

func TestOwner(t *testing.T) {
	if got := bus.Owner(nil, 3); got != "" {
		t.Errorf("nobody owns: %q", got)
	}
	members := []string{"a", "b", "c", "d"}
	share := map[string]int{}
	for p := range 1000 {
		o := bus.Owner(members, p)
		share[o]++
		if got := bus.Owner([]string{"d", "b", "a", "c"}, p); got != o {
			t.Fatalf("partition %d: %s or %s, by the order of the members", p, o, got)
		}
		if without := bus.Owner([]string{"a", "b", "d"}, p); o != "c" && without != o {
			t.Fatalf("partition %d moved from %s to %s when c left", p, o, without)
		}
	}
	for _, m := range members {
		if share[m] < 180 || share[m] > 320 {
			t.Errorf("%s owns %d of 1000", m, share[m])
		}
	}
}
