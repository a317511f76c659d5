package verify

import "time"

// Hasty are options with so little patience for a feed that is silent.
func (o Options) Hasty(idle time.Duration) Options {
	o.idle = idle
	return o
}
