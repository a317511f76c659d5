// Package cluster runs a whole system in this process: an embedded server and
// every role, joined by connections that pass through no socket. It serves
// `hierarchy dev`, the demo, stress runs and tests, those of users included.
//
// It is the same code as in separate processes, with the same streams. A role
// can be killed and started again: its connection is cut, so that it can neither
// say goodbye nor finish anything; what a real process would lose besides, its
// memory, it never sees again either.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
)

// readyTimeout bounds the start of the roles: reading a long journal is part of
// it.
const readyTimeout = 60 * time.Second

// Cluster is a running system. Its methods may be called from any goroutine.
type Cluster struct {
	opts   Options
	server *natsd.Server
	bus    *bus.Bus
	nc     *nats.Conn // of bus

	mu    sync.Mutex
	conns []*nats.Conn // those of callers

	metrics  *metrics.Registry
	observer atomic.Pointer[observer.Observer]
	http     string // where the observer listens
	web      *daemon.Web
	ready    atomic.Bool

	parts  []*part // in the order in which they are stopped
	failed chan error
	once   sync.Once
	err    error // of Stop
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
		SyncAlways: c.opts.SyncAlways, MaxMemory: c.opts.maxMemory(), Logger: c.opts.Logger,
	})
	if err != nil {
		return err
	}
	if c.nc, err = c.connect("setup"); err != nil {
		return err
	}
	if _, err := bus.Setup(ctx, c.nc, *c.opts.Layout); err != nil {
		return err
	}
	if c.bus, err = bus.Open(ctx, c.nc); err != nil {
		return err
	}
	if c.opts.Policy != nil {
		if _, err := c.bus.PutPolicy(ctx, c.opts.Policy); err != nil {
			return fmt.Errorf("cluster: write the policy: %w", err)
		}
	}
	return c.startParts(ctx)
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

func (c *Cluster) connect(name string) (*nats.Conn, error) {
	return c.server.Connect(nats.Name("hierarchy " + name))
}

// Bus is a bus on a connection of its own, for the caller's use.
func (c *Cluster) Bus() *bus.Bus { return c.bus }

// Connect opens a connection through no socket. [Cluster.Stop] closes it.
func (c *Cluster) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := c.server.Connect(opts...)
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, nc)
		c.mu.Unlock()
	}
	return nc, err
}

// ClientURL is the address for clients of other processes, empty without a
// listener.
func (c *Cluster) ClientURL() string { return c.server.ClientURL() }

// HTTPAddr is where the observer listens, empty if it does not.
func (c *Cluster) HTTPAddr() string { return c.http }

// Roles says how many of each role run, in words.
func (c *Cluster) Roles() string {
	executors := 0
	for _, p := range c.opts.pools() {
		executors += p.Executors
	}
	return fmt.Sprintf("submitter 1 · resolver %d · executor %d · observer 1", c.opts.Resolvers, executors)
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
	for _, p := range c.parts {
		if err := p.end(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	c.web.Close(ctx)
	c.mu.Lock()
	for _, nc := range append(c.conns, c.nc) {
		if nc != nil {
			nc.Close()
		}
	}
	c.mu.Unlock()
	if c.server != nil {
		c.server.Stop()
	}
	return errors.Join(errs...)
}
