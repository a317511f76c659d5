package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// begin prepares a role on a connection of its own and returns what runs it
// until its context ends. ready is told when it serves; it may be called often.
type begin func(ctx context.Context, b *bus.Bus, ready func(bool)) (run func(context.Context) error, err error)

// part is a role that can be started, and again after it was killed.
type part struct {
	name  string
	begin begin

	mu    sync.Mutex
	now   *life   // nil: it does not run
	lives []*life // all that have not ended for sure
}

// life is one run of a role, from its connection to its end.
type life struct {
	nc     *nats.Conn
	cancel context.CancelFunc
	ready  chan struct{} // closed when it serves for the first time
	done   chan struct{}
	killed atomic.Bool
}

// startParts starts the roles in the order in which they will be stopped, and
// waits until all of them serve. The observer comes last, when the others serve:
// its first look would find nobody alive, and it looks again only seconds later.
func (c *Cluster) startParts(ctx context.Context) error {
	all := c.plan()
	for i, p := range all {
		if i == len(all)-1 {
			if err := c.awaitAll(ctx); err != nil {
				return err
			}
		}
		c.parts = append(c.parts, p)
		if err := c.startPart(ctx, p); err != nil {
			return err
		}
	}
	if c.opts.HTTP != "" {
		if err := c.listen(ctx); err != nil {
			return err
		}
	}
	return c.awaitAll(ctx)
}

// awaitAll returns when every role that was started serves.
func (c *Cluster) awaitAll(ctx context.Context) error {
	for _, p := range c.parts {
		if err := c.await(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startPart(ctx context.Context, p *part) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil {
		return fmt.Errorf("cluster: %s runs already", p.name)
	}
	nc, err := c.connect(p.name)
	if err != nil {
		return err
	}
	l := &life{nc: nc, ready: make(chan struct{}), done: make(chan struct{})}
	first := sync.OnceFunc(func() { close(l.ready) })
	b, err := bus.Open(ctx, nc)
	if err == nil {
		var run func(context.Context) error
		run, err = p.begin(ctx, b, func(is bool) {
			if is {
				first()
			}
		})
		if err == nil {
			p.now, p.lives = l, append(p.lives, l)
			c.run(p.name, l, run)
			return nil
		}
	}
	nc.Close()
	return err
}

// run keeps a role running. One that ends before it is told to is a failure of
// the whole cluster.
func (c *Cluster) run(name string, l *life, f func(context.Context) error) {
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(l.done)
		defer l.nc.Close()
		err := f(ctx)
		if ctx.Err() != nil || l.killed.Load() {
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

// await returns when the part serves.
func (c *Cluster) await(ctx context.Context, p *part) error {
	p.mu.Lock()
	l := p.now
	p.mu.Unlock()
	if l == nil {
		return fmt.Errorf("cluster: %s does not run", p.name)
	}
	select {
	case <-l.ready:
		return nil
	case err := <-c.failed:
		return err
	case <-ctx.Done():
		return fmt.Errorf("cluster: %s was not ready in time: %w", p.name, ctx.Err())
	}
}

// kill cuts the connection and then lets the code run into the wall.
func (p *part) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.now; l != nil {
		l.killed.Store(true)
		l.nc.Close()
		l.cancel()
		p.now = nil
	}
}

// end ends every life of the part and waits for it.
func (p *part) end(ctx context.Context) (err error) {
	p.mu.Lock()
	lives := p.lives
	p.now, p.lives = nil, nil
	p.mu.Unlock()
	for _, l := range lives {
		l.cancel()
		select {
		case <-l.done:
		case <-ctx.Done():
			l.nc.Close()
			err = fmt.Errorf("cluster: %s did not end in time: %w", p.name, context.Cause(ctx))
		}
	}
	return err
}

// Names lists the roles that can be killed and restarted, such as "resolver-1",
// in the order in which they were started.
func (c *Cluster) Names() []string {
	names := make([]string, len(c.parts))
	for i, p := range c.parts {
		names[i] = p.name
	}
	return names
}

func (c *Cluster) part(name string) (*part, error) {
	for _, p := range c.parts {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("cluster: there is no role %q", name)
}

// Kill cuts a role off, as the death of its process would: its lease runs out,
// what it had fetched comes back later, and nobody is told. What it runs goes on
// until it notices; nothing of it has an effect any more. Killing one that does
// not run does nothing.
func (c *Cluster) Kill(name string) error {
	p, err := c.part(name)
	if err == nil {
		p.kill()
	}
	return err
}

// Restart starts a role again, after killing it if it runs, and returns when it
// serves. A resolver waits until its predecessor's lease has run out.
func (c *Cluster) Restart(ctx context.Context, name string) error {
	p, err := c.part(name)
	if err != nil {
		return err
	}
	p.kill()
	if err := c.startPart(ctx, p); err != nil {
		return err
	}
	return c.await(ctx, p)
}
