package optest

import (
	"context"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
)

// bubblePatience is fake time: what waits in a bubble waits for an event of the
// system, however far in the future.
const bubblePatience = 24 * time.Hour

// What passing time costs is what the system does while nothing happens, so it
// does that less often.
const (
	bubbleLease      = 30 * time.Second // a killed resolver is missed for as long
	bubbleProbe      = 25 * time.Second // later, the health would call the news old
	bubblePartitions = 2
)

func inBubble(c *config) error {
	c.LeaseTTL, c.ProbeEvery, c.partitions = bubbleLease, bubbleProbe, bubblePartitions
	return nil
}

// Bubble runs f with a system in a bubble of [testing/synctest], where time is
// fake: it stands still while anything runs and jumps to the next timer when
// nothing does. The server, its streams and every role are inside, so that a
// lease of half a minute is over in milliseconds, and a deadline that is an hour
// away is there in about a second. f lets time pass with time.Sleep, or by waiting for what is to happen.
//
// The rules of a bubble hold:
//
//   - There is no network and no other process: [WithListener] cannot be had, and
//     a handler that waits for a socket makes time stand still.
//   - Every goroutine that f starts has to end before f does. Those of the system
//     end by themselves.
//   - f must not call t.Run, t.Parallel or t.Deadline, and a test with a bubble
//     must not run in parallel with others: the NATS client keeps a pool of timers
//     for the whole binary, which is emptied on the way in and out.
//   - Channels, timers and sync.WaitGroups of a bubble stay in it. Make what a
//     handler uses inside f.
//   - It leans on what nats-server keeps running in the background. An upgrade of
//     nats-server that changes this shows as a test that hangs; this package has a
//     test of its own that says so first.
//
// The clock starts at midnight UTC of 2000-01-01. Helpers wait for up to a day of
// fake time.
func Bubble(t *testing.T, f func(t *testing.T, s *System), opts ...Option) {
	t.Helper()
	cfg, err := configure(append([]Option{inBubble}, opts...))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Port != cluster.NoListener {
		t.Fatal("optest: there is no network in a bubble")
	}
	natstest.Bubble(t, func(t *testing.T, dir string) {
		if cfg.StoreDir == "" {
			cfg.StoreDir = dir
		}
		l, err := open(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
		f(t, &System{Local: l, tb: t, patience: bubblePatience})
	})
}
