package resolver

import (
	"log/slog"
	"sync"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

// board shows the current policy to the partitions of the process. One watch
// serves them all.
type board struct {
	log *slog.Logger

	mu      sync.Mutex
	policy  *arbiter.Policy
	changed chan struct{} // closed when another policy is put up
}

func newBoard(log *slog.Logger) *board { return &board{log: log, changed: make(chan struct{})} }

// put takes a revision of the policy. One that cannot be read is refused and the
// one in force stays.
func (b *board) put(data []byte, rev uint64) {
	policy, err := arbiter.ParsePolicy(data, rev)
	if err != nil {
		b.log.Warn("policy refused", "revision", rev, "error", err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.policy = &policy
	close(b.changed)
	b.changed = make(chan struct{})
}

// newer returns the policy on the board when it is newer than revision, and a
// channel that is closed when the next one is put up.
func (b *board) newer(revision uint64) (*arbiter.Policy, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.policy == nil || b.policy.Revision <= revision {
		return nil, b.changed
	}
	return b.policy, b.changed
}
