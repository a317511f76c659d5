package optest

import (
	"log/slog"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
)

// Defaults that differ from those of a real system, because a test starts many
// small ones. Partitions are independent of each other, so that four of them show
// whatever sixteen would.
const (
	defaultPartitions = 4
	defaultDrain      = 2 * time.Second
	defaultLease      = time.Second // the least there is
)

// Option changes what [Start], [Open] and [Bubble] start.
type Option func(*config) error

type config struct {
	cluster.Options
	partitions int
	rules      rules
	workers    map[string]*handlers // by pool
}

func configure(opts []Option) (*config, error) {
	c := &config{
		Options:    cluster.Options{Memory: true, Port: cluster.NoListener, Executors: 1, Drain: defaultDrain, LeaseTTL: defaultLease},
		partitions: defaultPartitions,
		rules:      rules{},
		workers:    map[string]*handlers{},
	}
	for _, o := range opts {
		if err := o(c); err != nil {
			return nil, err
		}
	}
	layout := bus.DefaultLayout()
	layout.Partitions = c.partitions
	c.Layout = &layout
	c.Workers = workers(c)
	var err error
	c.Policy, err = c.rules.text()
	return c, err
}

// WithPolicy sets rules, as an operator writes them: {"staging_window":"20ms"}.
// Given more than once, a later field replaces an earlier one, types field by
// field. Start fails for a policy that is not valid. The README lists the
// fields.
func WithPolicy(text string) Option { return func(c *config) error { return c.rules.merge(text) } }

// WithStagingWindow sets how long the operations on a target collect before they
// are resolved; the default is 10 ms. A longer one makes sure that operations
// submitted one after another meet; 0 decides at once.
func WithStagingWindow(d time.Duration) Option { return withDuration("staging_window", d) }

// WithGracePeriod sets how long an operation that was promoted can be neither
// cancelled nor preempted; the default is 100 ms.
func WithGracePeriod(d time.Duration) Option { return withDuration("grace_period", d) }

// WithAttemptTimeout sets the lease of an attempt: a handler that is silent for
// longer has lost it. The default is 30 s, the least 100 ms.
func WithAttemptTimeout(d time.Duration) Option { return withDuration("attempt_timeout", d) }

// WithRetryDelay sets the delay before the first retry, which doubles with each
// one, and the longest; the defaults are 100 ms and 5 s.
func WithRetryDelay(first, longest time.Duration) Option {
	return func(c *config) error {
		c.rules.set("retry_base_delay", first.String())
		c.rules.set("retry_max_delay", longest.String())
		return nil
	}
}

func withDuration(field string, d time.Duration) Option {
	return func(c *config) error {
		c.rules.set(field, d.String())
		return nil
	}
}

// WithPreemption lets an operation of higher priority take the place of an
// executing one that is preemptible, after grace.
func WithPreemption() Option {
	return func(c *config) error {
		c.rules.set("preemption", "after_grace")
		return nil
	}
}

// WithResolvers starts n resolvers instead of one. They share the partitions, and
// one takes over what a dead one leaves when its lease has run out, within about
// a second.
func WithResolvers(n int) Option {
	return func(c *config) error { c.Resolvers = n; return nil }
}

// WithExecutors starts n executors of the default pool instead of one.
func WithExecutors(n int) Option {
	return func(c *config) error { c.Executors = n; return nil }
}

// WithPool starts an executor of another pool, for types whose handlers are asked
// over NATS. Handlers in Go need none: see [WithType].
func WithPool(name string) Option {
	return func(c *config) error { c.Pools = append(c.Pools, cluster.Pool{Name: name}); return nil }
}

// WithConcurrency lets each executor, and each worker, run at most n handlers at
// once; the default is 64.
func WithConcurrency(n int) Option {
	return func(c *config) error { c.Concurrency = n; return nil }
}

// WithPartitions splits the targets into n partitions instead of four.
func WithPartitions(n int) Option {
	return func(c *config) error { c.partitions = n; return nil }
}

// WithListener lets other processes in: the server listens on a free port of
// loopback, see [Local.URL], and asks for no password. It cannot be had in a
// bubble.
func WithListener() Option {
	return func(c *config) error { c.Port = 0; return nil }
}

// WithStore keeps everything in files below dir, so that a system that is started
// on the same directory later goes on where this one ended.
func WithStore(dir string) Option {
	return func(c *config) error { c.StoreDir, c.Memory = dir, false; return nil }
}

// WithLogger has the roles and the server write their logs; the default drops
// them.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error { c.Logger = l; return nil }
}
