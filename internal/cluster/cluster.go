// Package cluster runs a whole system in this process: an embedded server and
// every role, joined by connections that pass through no socket. It serves
// `hierarchy dev`, the demo, stress runs and tests.
//
// It is the same code as in separate processes, with the same streams; what it
// gives up is that the roles can die one by one.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
)

// NoListener as [Options.Port] gives the server no socket.
const NoListener = natsd.NoListener

// Options say what to start. Only StoreDir is required.
type Options struct {
	StoreDir   string // of the server; what is in it already is kept and used
	Host       string // to listen on; default 127.0.0.1
	Port       int    // 0: a free one; NoListener: none
	HTTP       string // address of the observer's pages and metrics; "": none. Port 0: a free one
	Resolvers  int    // default 1
	Executors  int    // default 2
	Layout     *bus.Layout
	Logger     *slog.Logger // nil drops everything
	SyncAlways bool         // fsync before every acknowledgement
	Version    string       // of the program, for the services and metrics
}

func (o *Options) defaults() {
	if o.Resolvers <= 0 {
		o.Resolvers = 1
	}
	if o.Executors <= 0 {
		o.Executors = 2
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Layout == nil {
		l := bus.DefaultLayout()
		o.Layout = &l
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// readyTimeout bounds the start of the roles: reading a long journal is part of
// it.
const readyTimeout = 60 * time.Second

// Cluster is a running system. Its methods may be called from any goroutine.
type Cluster struct {
	opts   Options
	server *natsd.Server
	bus    *bus.Bus
	conns  []*nats.Conn

	metrics  *metrics.Registry
	observer *observer.Observer
	http     string // where the observer listens
	ready    atomic.Bool

	roles  []*role // in the order in which they are stopped
	failed chan error
	once   sync.Once
	err    error // of Stop
}

// role is one running role.
type role struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
}

// Start starts everything and returns when every partition is served. The
// system lives until [Cluster.Stop]; the end of ctx only gives up starting.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	o.defaults()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	c := &Cluster{opts: o, failed: make(chan error, 1), metrics: metrics.New(o.Version)}
	if err := c.start(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return nil, errors.Join(err, c.Stop(stop))
	}
	c.ready.Store(true)
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	err := c.free(ctx)
	if err != nil {
		return err
	}
	c.server, err = natsd.Start(natsd.Options{
		Name: "hierarchy", StoreDir: c.opts.StoreDir, Host: c.opts.Host, Port: c.opts.Port,
		SyncAlways: c.opts.SyncAlways, Logger: c.opts.Logger,
	})
	if err != nil {
		return err
	}
	nc, err := c.connect("setup")
	if err != nil {
		return err
	}
	if _, err := bus.Setup(ctx, nc, *c.opts.Layout); err != nil {
		return err
	}
	if c.bus, err = bus.Open(ctx, nc); err != nil {
		return err
	}
	return c.startRoles(ctx)
}

// free tells at once that the port is taken: the server itself would only fail to
// become ready.
func (c *Cluster) free(ctx context.Context) error {
	if c.opts.Port <= 0 {
		return nil
	}
	host := c.opts.Host
	if host == "" {
		host = "127.0.0.1"
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(c.opts.Port)))
	if err != nil {
		return fmt.Errorf("cluster: the NATS port cannot be used: %w", err)
	}
	return l.Close()
}

// connect opens a connection that [Cluster.Stop] closes.
func (c *Cluster) connect(name string) (*nats.Conn, error) {
	nc, err := c.server.Connect(nats.Name("hierarchy " + name))
	if err != nil {
		return nil, err
	}
	c.conns = append(c.conns, nc)
	return nc, nil
}

// open gives a role a connection and a bus of its own.
func (c *Cluster) open(ctx context.Context, name string) (*bus.Bus, error) {
	nc, err := c.connect(name)
	if err != nil {
		return nil, err
	}
	return bus.Open(ctx, nc)
}

// run starts a role. It ends when its context does; ending before that is a
// failure of the whole cluster.
func (c *Cluster) run(name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &role{name: name, cancel: cancel, done: make(chan struct{})}
	c.roles = append(c.roles, r)
	go func() {
		defer close(r.done)
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		select {
		case c.failed <- fmt.Errorf("cluster: %s: %w", name, err):
		default: // the first one is enough
		}
	}()
}

// Bus is a bus on a connection of its own, for the caller's use.
func (c *Cluster) Bus() *bus.Bus { return c.bus }

// Connect opens a connection through no socket. It is closed by [Cluster.Stop].
func (c *Cluster) Connect(opts ...nats.Option) (*nats.Conn, error) { return c.server.Connect(opts...) }

// ClientURL is the address for clients of other processes, empty without a
// listener.
func (c *Cluster) ClientURL() string { return c.server.ClientURL() }

// HTTPAddr is where the observer listens, empty if it does not.
func (c *Cluster) HTTPAddr() string { return c.http }

// Roles says how many of each role run, in words.
func (c *Cluster) Roles() string {
	return fmt.Sprintf("submitter 1 · resolver %d · executor %d · observer 1", c.opts.Resolvers, c.opts.Executors)
}

// Failed is told when a role ends by itself, at most once.
func (c *Cluster) Failed() <-chan error { return c.failed }

// Stop ends the roles in order, each after it has finished what it was doing:
// first those that bring work in, last the server. When ctx ends first, the
// rest is cut short, which loses nothing but time at the next start. Calling it
// again returns what the first call returned.
func (c *Cluster) Stop(ctx context.Context) error {
	c.once.Do(func() { c.err = c.stop(ctx) })
	return c.err
}

func (c *Cluster) stop(ctx context.Context) error {
	c.ready.Store(false)
	var errs []error
	for _, r := range c.roles {
		r.cancel()
		select {
		case <-r.done:
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("cluster: %s did not end in time: %w", r.name, context.Cause(ctx)))
		}
	}
	for _, nc := range c.conns {
		nc.Close()
	}
	if c.server != nil {
		c.server.Stop()
	}
	return errors.Join(errs...)
}
