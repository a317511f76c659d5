package resolver

import (
	"context"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

// watchPolicy hands every new revision of the policy to the machine as an input.
// A policy that cannot be read is refused; the one in force stays.
func (p *partition) watchPolicy(ctx context.Context) {
	for ctx.Err() == nil {
		err := p.bus.WatchPolicy(ctx, func(data []byte, rev uint64) { p.offerPolicy(ctx, data, rev) })
		if ctx.Err() != nil {
			return
		}
		p.log.Warn("policy watch ended and is started again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (p *partition) offerPolicy(ctx context.Context, data []byte, rev uint64) {
	policy, err := arbiter.ParsePolicy(data, rev)
	if err != nil {
		p.log.Warn("policy refused", "revision", rev, "error", err)
		return
	}
	select {
	case p.policy <- arbiter.Input{Policy: &policy}:
	case <-ctx.Done():
	}
}
