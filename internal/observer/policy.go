package observer

import (
	"context"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

// roles is what the policy says about the processes (contract §7).
func (o *Observer) roles() arbiter.RolePolicy {
	if r := o.policy.Load(); r != nil {
		return *r
	}
	return arbiter.DefaultPolicy().Roles
}

// keepTo follows the policy until ctx ends. One that cannot be read changes
// nothing; the resolvers tell of it.
func (o *Observer) keepTo(ctx context.Context) error {
	return o.cfg.Bus.WatchPolicy(ctx, func(data []byte, rev uint64) {
		if p, err := arbiter.ParsePolicy(data, rev); err == nil {
			o.policy.Store(&p.Roles)
		}
	})
}
