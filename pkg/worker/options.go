package worker

import (
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// DefaultPool is the pool of a worker that does not say otherwise.
const DefaultPool = "workers"

// Option changes how a worker works.
type Option func(*options)

type options struct {
	nats        []nats.Option
	pool        string
	name        string
	version     string
	concurrency int
	drain       time.Duration
	logger      *slog.Logger
	around      []Middleware
}

// WithNATS passes options to the connection that [Connect] makes: credentials,
// TLS, names. [New] ignores them.
func WithNATS(opts ...nats.Option) Option {
	return func(o *options) { o.nats = append(o.nats, opts...) }
}

// WithPool is the pool whose work the worker takes instead of [DefaultPool]. The
// policy says which types belong to it.
func WithPool(name string) Option { return func(o *options) { o.pool = name } }

// WithConcurrency lets n handlers run at once; the default is 64. What is not
// being handled waits for any worker of the pool.
func WithConcurrency(n int) Option { return func(o *options) { o.concurrency = n } }

// WithName is who the worker is in records and logs, a token of 1 to 64 characters
// out of A-Z a-z 0-9 _ -. The default is unique.
func WithName(name string) Option { return func(o *options) { o.name = name } }

// WithVersion is the version of your program, for `nats micro ls`.
func WithVersion(version string) Option { return func(o *options) { o.version = version } }

// WithDrainTimeout is how long handlers may go on when the worker is to end; the
// default is 10 s. Then their contexts end, and other workers make the attempts.
func WithDrainTimeout(d time.Duration) Option { return func(o *options) { o.drain = d } }

// WithLogger gets what nobody else is told: panics with their stacks, handlers
// that do not return, a policy that does not fit. Without it that is dropped.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithMiddleware puts something around every handler. The first is the outermost.
func WithMiddleware(m ...Middleware) Option {
	return func(o *options) { o.around = append(o.around, m...) }
}
