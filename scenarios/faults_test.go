package scenarios

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// quick has leases short enough for a test. Nothing but the length of the gaps
// depends on them.
const quick = `{"attempt_timeout":"3s","retry_base_delay":"20ms"}`

// Two resolvers and three executors share 2,000 contended operations while one
// of each is killed and replaced. They are started before their server.
func TestProcessesAreKilledAndReplaced(t *testing.T) {
	const targets, n = 20, 2000
	s := plan(t)
	resolvers := []*program{s.resolver("r1"), s.resolver("r2")}
	executors := []*program{s.executor("x1"), s.executor("x2"), s.executor("x3")}
	s.up(quick)
	made := s.create(targets)
	s.settle(60*time.Second, made)
	done := s.submit(t.Context(), "op", n, targets, func(i int) {
		switch i {
		case n / 4:
			resolvers[0].kill()
			executors[0].kill()
		case n / 2:
			resolvers[0] = s.resolver("r3")
			executors[0] = s.executor("x4")
		}
	})
	counts := s.settle(90*time.Second, made, done)
	t.Logf("%d operations: %v", n+targets, counts)
	if got := counts[op.Succeeded] + counts[op.Rejected] + counts[op.Cancelled]; got != n+targets {
		t.Errorf("%d of %d operations ended", got, n+targets)
	}
	if counts[op.Succeeded] < n/4 {
		t.Errorf("only %d operations succeeded: the run proves nothing", counts[op.Succeeded])
	}
	s.account(counts, targets)
	s.verify()
}

// A resolver that sleeps past its lease wakes up deposed: its commit is refused
// and recorded, and nothing is decided twice.
func TestAStoppedResolverIsFencedOff(t *testing.T) {
	const targets, n = 20, 600
	s := newSite(t, quick)
	sleeper := s.resolver("r1")
	s.executor("x1")
	made := s.create(targets)
	s.settle(60*time.Second, made)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	loads := make(chan *load)
	halfway := make(chan struct{})
	go func() {
		loads <- s.submit(ctx, "op", n, targets, func(i int) {
			if i == n/2 {
				close(halfway)
			}
		})
	}()
	<-halfway
	sleeper.signal(syscall.SIGSTOP)
	s.resolver("r2") // takes over when the lease has run out
	done := <-loads
	counts := s.settle(90*time.Second, made, done)
	sleeper.signal(syscall.SIGCONT)
	s.eventually(30*time.Second, "the refusal of the old owner's commit", func() bool {
		return s.events(op.EventStaleCommit) > 0
	})
	more := s.submit(t.Context(), "more", 100, targets, nil)
	again := s.settle(60*time.Second, more)
	for status, k := range again {
		counts[status] += k
	}
	t.Logf("%d operations: %v; %d take-overs, %d stale commits refused", n+targets+100, counts,
		s.events(op.EventTakeover), s.events(op.EventStaleCommit))
	s.account(counts, targets)
	s.verify()
}

// An executor that sleeps past the lease of its attempts wakes up with results
// that nobody accepts.
func TestAStoppedExecutorIsFencedOff(t *testing.T) {
	const targets, n = 20, 400
	s := newSite(t, `{"attempt_timeout":"1s","retry_base_delay":"20ms"}`)
	s.resolver("r1")
	sleeper := s.executor("x1", "--hold", "300ms") // there are always attempts to be late with
	made := s.create(targets)
	s.settle(60*time.Second, made)
	done := s.submit(t.Context(), "op", n, targets, func(i int) {
		if i == n/2 {
			s.eventually(20*time.Second, "attempts to be under way", func() bool { return s.executing() > 0 })
			sleeper.signal(syscall.SIGSTOP)
			s.executor("x2")
		}
	})
	counts := s.settle(120*time.Second, made, done)
	sleeper.signal(syscall.SIGCONT)
	s.eventually(30*time.Second, "a late result to be refused", func() bool { return s.events(op.EventStaleCommit) > 0 })
	t.Logf("%d operations: %v; %d late results refused", n+targets, counts, s.events(op.EventStaleCommit))
	s.account(counts, targets)
	s.verify()
}

// Everything is killed at once in the middle of a burst, the server included,
// and started again on the same files: what was acknowledged ends.
func TestEverythingIsKilledAndStartedAgain(t *testing.T) {
	const targets, n = 20, 1500
	s := newSite(t, "")
	roles := func() []*program { return []*program{s.resolver("r1"), s.executor("x1"), s.executor("x2")} }
	running := roles()
	made := s.create(targets)
	s.settle(60*time.Second, made)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := s.submit(ctx, "op", n, targets, func(i int) {
		if i == n*2/3 {
			s.nats.kill()
			for _, p := range running {
				p.kill()
			}
			s.nats = s.server()
			roles()
		}
	})
	if len(done.ids) != n {
		t.Fatalf("%d of %d submissions were acknowledged in the end", len(done.ids), n)
	}
	counts := s.settle(120*time.Second, made, done)
	t.Logf("%d operations: %v", n+targets, counts)
	s.account(counts, targets)
	s.verify()
}
