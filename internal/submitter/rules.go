package submitter

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/registry"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// rules are one revision of the policy, as far as the edge cares about it.
type rules struct {
	policy arbiter.Policy
	types  *registry.Registry
}

func builtin() *rules { return &rules{policy: arbiter.DefaultPolicy(), types: registry.Builtin()} }

// freshness is how often the policy is read again because an operation was refused
// under it: whoever has just changed it should not be told what it said before.
const freshness = 50 * time.Millisecond

// book holds the policy in force. A submitter that follows the policy hears of
// each change; any other reads it when it is first asked.
type book struct {
	log   *slog.Logger
	fetch func(context.Context) (data []byte, rev uint64, err error) // from the server
	now   atomic.Pointer[rules]

	mu   sync.Mutex
	read time.Time // when it was last read from the server
}

// rules returns the policy in force.
func (b *book) rules(ctx context.Context) (*rules, error) {
	if r := b.now.Load(); r != nil {
		return r, nil
	}
	return b.refresh(ctx, nil)
}

// refresh reads the policy, unless it has become another than old meanwhile, or
// was read a moment ago.
func (b *book) refresh(ctx context.Context, old *rules) (*rules, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.now.Load(); r != old || r != nil && time.Since(b.read) < freshness {
		return r, nil
	}
	data, rev, err := b.fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", op.Errorf(op.CodeUnavailable, "", "the policy could not be read; nothing was stored"), err)
	}
	b.read = time.Now()
	if rev > 0 {
		b.put(data, rev)
	}
	if b.now.Load() == nil {
		b.now.CompareAndSwap(nil, builtin())
	}
	return b.now.Load(), nil
}

// put takes a revision of the policy. One that is not valid is refused and the one
// in force stays, as it does with the resolvers, which say so in OPS_CONFIG.
func (b *book) put(data []byte, rev uint64) {
	policy, err := arbiter.ParsePolicy(data, rev)
	var types *registry.Registry
	if err == nil {
		types, err = registry.New(policy)
	}
	if err != nil {
		b.log.Warn("policy refused", "revision", rev, "error", err)
		return
	}
	next := &rules{policy: policy, types: types}
	for {
		old := b.now.Load()
		if old != nil && old.policy.Revision >= rev || b.now.CompareAndSwap(old, next) {
			return
		}
	}
}

// check asks for what can be asked of one operation at the edge: its params, and
// whether the policy would turn it away. That is asked again by the resolver,
// under the policy of its instant.
func (r *rules) check(o *op.Operation) *op.Error {
	if e := r.params(o); e != nil {
		return e
	}
	p := &r.policy
	if p.Stops(o.Type, o.Target) {
		return op.Errorf(op.CodePaused, "", "operations of type %s on %s are paused by an operator; nothing was stored", o.Type, o.Target)
	}
	if !p.RefusePriority {
		return nil
	}
	if allowed := p.Allowed(o.Type, o.Submitter, o.Priority); allowed != o.Priority {
		return op.Errorf(op.CodeNotAllowed, "priority", "priority %d is not allowed to submitter %.80q for %s; the nearest that is, is %d",
			o.Priority, o.Submitter, o.Type, allowed)
	}
	return nil
}

func (r *rules) params(o *op.Operation) *op.Error {
	if e := entity.CheckParams(o); e != nil {
		return e
	}
	return r.types.Check(o)
}

// stale reports whether a refusal may be due to an old policy.
func stale(err error) bool {
	e := op.AsError(err)
	if e == nil {
		return false
	}
	switch e.Code {
	case op.CodeUnknownType, op.CodeBadParams, op.CodePaused, op.CodeNotAllowed:
		return true
	}
	return false
}

// under runs f with the policy in force, and again if it failed for a reason that
// a newer policy may take away.
func (b *book) under(ctx context.Context, f func(*rules) error) error {
	r, err := b.rules(ctx)
	if err != nil {
		return err
	}
	if err = f(r); !stale(err) {
		return err
	}
	newer, failed := b.refresh(ctx, r)
	if failed != nil || newer == r {
		return err
	}
	return f(newer)
}

// Follow keeps the policy and the news of load up to date until ctx ends. A
// submitter that serves, or loads a file, does so by itself; one that submits once
// need not. More than one caller may follow at a time.
func (s *Submitter) Follow(ctx context.Context) error {
	stop, err := s.bus.WatchLoad(s.news.hear)
	if err != nil {
		return fmt.Errorf("submitter: %w", err)
	}
	context.AfterFunc(ctx, stop)
	if err := s.bus.WatchPolicy(ctx, s.book.put); err != nil {
		return fmt.Errorf("submitter: policy: %w", err)
	}
	s.book.now.CompareAndSwap(nil, builtin())
	return nil
}
