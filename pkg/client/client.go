package client

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// DefaultTimeout bounds a call whose context has no deadline, unless
// [WithTimeout] says otherwise. Await, Watch and the handlers are not bounded.
const DefaultTimeout = 30 * time.Second

// Option changes how a client works.
type Option func(*options)

type options struct {
	nats      []nats.Option
	timeout   time.Duration
	submitter string
	logger    *slog.Logger
}

// WithNATS passes options to the connection that [Connect] makes: credentials,
// TLS, names. [New] ignores them.
func WithNATS(opts ...nats.Option) Option {
	return func(o *options) { o.nats = append(o.nats, opts...) }
}

// WithTimeout bounds each call whose context has no deadline of its own.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithSubmitter is who submits, where an operation does not say so itself. The
// policy may grant priorities by that name; it is no proof of who it is.
func WithSubmitter(name string) Option { return func(o *options) { o.submitter = name } }

// WithLogger gets what nobody else is told: a panic of a handler, an answer of a
// handler that could not be carried out. Without it, that is dropped.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// Client speaks to a running system. Its methods may be called from any
// goroutine.
type Client struct {
	nc        *nats.Conn
	own       bool // Close closes the connection
	timeout   time.Duration
	submitter string
	log       *slog.Logger
	hub       hub

	mu  sync.Mutex
	bus *bus.Bus // for the feed of events; opened when it is needed
}

// Connect connects to a NATS server and returns a client that closes the
// connection in the end. The connection comes back by itself when it is lost, for
// as long as the client lives. ctx bounds the first attempt only.
func Connect(ctx context.Context, url string, opts ...Option) (*Client, error) {
	o := read(opts)
	set := append([]nats.Option{nats.Name("hierarchy client"), nats.MaxReconnects(-1)}, o.nats...)
	type dialled struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan dialled, 1)
	go func() {
		nc, err := nats.Connect(url, set...)
		done <- dialled{nc, err}
	}()
	select {
	case d := <-done:
		if d.err != nil {
			return nil, trouble("", ErrUnavailable, d.err, "no connection")
		}
		c := newClient(d.nc, o)
		c.own = true
		return c, nil
	case <-ctx.Done():
		go func() { // it ends by its own time-out
			if d := <-done; d.nc != nil {
				d.nc.Close()
			}
		}()
		return nil, trouble("", ErrUnavailable, context.Cause(ctx), "no connection")
	}
}

// New returns a client on a connection that stays the caller's.
func New(nc *nats.Conn, opts ...Option) *Client { return newClient(nc, read(opts)) }

func read(opts []Option) *options {
	o := &options{timeout: DefaultTimeout, logger: slog.New(slog.DiscardHandler)}
	for _, set := range opts {
		set(o)
	}
	return o
}

func newClient(nc *nats.Conn, o *options) *Client {
	c := &Client{nc: nc, timeout: o.timeout, submitter: o.submitter, log: o.logger}
	c.hub.nc = nc
	return c
}

// Close ends the client. Calls that are under way return [ErrClosed]; what was
// submitted stands. Calling it twice is fine. A connection that was given to
// [New] stays open.
func (c *Client) Close() {
	if c.own {
		c.nc.Close()
	}
}

// Conn is the connection, for what this package does not cover.
func (c *Client) Conn() *nats.Conn { return c.nc }

// feed returns the bus, for the feed of events.
func (c *Client) feed(ctx context.Context) (*bus.Bus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bus != nil {
		return c.bus, nil
	}
	b, err := bus.Open(ctx, c.nc)
	if err != nil {
		return nil, c.lost("", err, "the feed of events cannot be read")
	}
	c.bus = b
	return b, nil
}

// lost is the error for a question that was not answered.
func (c *Client) lost(opID string, err error, message string) *Error {
	if c.nc.IsClosed() {
		return trouble(opID, ErrClosed, err, message)
	}
	return trouble(opID, ErrUnavailable, err, message)
}

// bounded gives ctx a deadline if it has none.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within %s: %w", c.timeout, context.DeadlineExceeded))
}
