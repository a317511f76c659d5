package executor

import (
	"context"
	"log/slog"
	"sync"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// types knows which types the policy gives to this pool: those without a handler
// here are asked for over NATS (contract §4).
type types struct {
	bus  Log
	log  *slog.Logger
	pool string
	own  bool // there are handlers in this process

	mu      sync.Mutex
	rev     uint64
	served  map[string]bool
	changed chan struct{} // closed when custom has another answer
}

func newTypes(cfg *Config, b Log) *types {
	return &types{bus: b, log: cfg.Logger, pool: cfg.Pool, own: len(cfg.Handlers) > 0, changed: make(chan struct{})}
}

// put takes a revision of the policy. What cannot be read is in force nowhere.
func (t *types) put(data []byte, rev uint64) {
	policy, err := arbiter.ParsePolicy(data, rev)
	if err != nil {
		t.log.Warn("policy refused", "revision", rev, "error", err)
		return
	}
	builtin := op.BuiltinTypes()
	served := map[string]bool{}
	for name, p := range policy.Types {
		if _, ok := builtin[name]; !ok && (p.Pool == t.pool || p.Pool == "" && t.pool == op.DefaultPool) {
			served[name] = true
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if rev <= t.rev && t.rev > 0 {
		return
	}
	news := len(served) > 0 != (len(t.served) > 0)
	t.rev, t.served = rev, served
	if news {
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// serves reports whether the policy gives the type to this pool. Who grants may
// have seen a newer policy, so a type that is not known here is looked up.
func (t *types) serves(ctx context.Context, opType string) bool {
	t.mu.Lock()
	known := t.served[opType]
	t.mu.Unlock()
	if known {
		return true
	}
	data, rev, err := t.bus.Policy(ctx)
	if err != nil || rev == 0 {
		return false
	}
	t.put(data, rev)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.served[opType]
}

// custom reports whether this pool has types that are not built in, and returns a
// channel that is closed when that has changed.
func (t *types) custom() (bool, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.own || len(t.served) > 0, t.changed
}
