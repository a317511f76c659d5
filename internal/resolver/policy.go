package resolver

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/registry"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// rules are one revision of the policy with the registry that is made of it.
type rules struct {
	policy   *arbiter.Policy
	registry *registry.Registry
}

// board shows the current policy to the partitions of the process. One watch
// serves them all.
type board struct {
	log        *slog.Logger
	partitions int
	refused    func(rev uint64, why *op.Error)
	memory     func(megabytes int) // what to do about max_memory_mb

	mu      sync.Mutex
	rules   *rules
	changed chan struct{} // closed when another policy is put up
}

func newBoard(log *slog.Logger, partitions int, refused func(uint64, *op.Error), memory func(megabytes int)) *board {
	return &board{log: log, partitions: partitions, refused: refused, memory: memory, changed: make(chan struct{})}
}

// put takes a revision of the policy. One that cannot be read, or whose schemas
// cannot be compiled, is refused, and the one in force stays (ADR 0011).
func (b *board) put(data []byte, rev uint64) {
	policy, err := arbiter.ParsePolicy(data, rev)
	var types *registry.Registry
	if err == nil {
		types, err = registry.New(policy)
	}
	if err != nil {
		b.log.Warn("policy refused", "revision", rev, "error", err)
		why := op.AsError(err)
		if why == nil {
			why = op.Errorf(op.CodeBadPolicy, "", "%s", err.Error())
		}
		b.refused(rev, why)
		return
	}
	policy = policy.For(b.partitions)
	b.memory(policy.Roles.MaxMemoryMB)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = &rules{policy: &policy, registry: types}
	close(b.changed)
	b.changed = make(chan struct{})
}

// keepTo sets the soft limit of the memory of this process, unless whoever
// started it has set one.
func keepTo(megabytes int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(megabytes) << 20)
	}
}

// newer returns the rules on the board when they are newer than revision, and a
// channel that is closed when the next ones are put up.
func (b *board) newer(revision uint64) (*rules, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rules == nil || b.rules.policy.Revision <= revision {
		return nil, b.changed
	}
	return b.rules, b.changed
}

// refused returns what is done about a policy that cannot be put into force: it
// is counted, and told where the policy is, because whoever wrote it did not ask
// us first.
func (c *Config) refused(ctx context.Context, log *slog.Logger) func(uint64, *op.Error) {
	return func(rev uint64, why *op.Error) {
		c.Metrics.PolicyRefused.Inc()
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if err := c.Bus.RefusePolicy(ctx, bus.PolicyRefusal{Revision: rev, Error: why}); err != nil {
			log.Warn("the refusal of the policy could not be told", "revision", rev, "error", err)
		}
	}
}

// adopt makes the registry of the policy that is in force in the machine. One
// that was in force when the journal was written and does not compile now is of
// another release: only the built-in types are known then, until somebody writes
// a policy.
func (p *partition) adopt(policy arbiter.Policy) {
	types, err := registry.New(policy)
	if err != nil {
		p.log.Error("the policy in force cannot be compiled: registered types are unknown", "revision", policy.Revision, "error", err)
		types = registry.Builtin()
	}
	p.registry = types
}
