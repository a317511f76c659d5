package rig

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands between clients and a server and is as bad as it is told to be. Its
// methods may be called from any goroutine.
type Proxy struct {
	listener net.Listener
	to       string
	stop     context.Context //nolint:containedctx // that of the test, for what waits
	wg       sync.WaitGroup

	mu    sync.Mutex
	delay time.Duration // of every piece, in both directions
	gate  chan struct{} // closed: what is sent goes through
	conns map[net.Conn]bool
}

// NewProxy starts a proxy that ends with the test.
func NewProxy(t *testing.T, to string) *Proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, to: to, gate: make(chan struct{}), conns: map[net.Conn]bool{}, stop: t.Context()}
	close(p.gate)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// URL is where clients connect to.
func (p *Proxy) URL() string { return "nats://" + p.listener.Addr().String() }

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := (&net.Dialer{Timeout: time.Second}).DialContext(p.stop, "tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(client, server) })
		p.wg.Go(func() { p.pump(server, client) })
	}
}

// pump copies from one side to the other until one of them is closed.
func (p *Proxy) pump(from, to net.Conn) {
	defer func() {
		_ = from.Close()
		_ = to.Close()
		p.mu.Lock()
		delete(p.conns, from)
		p.mu.Unlock()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || !p.pass() {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// pass waits as long as the proxy is told to make everything wait.
func (p *Proxy) pass() bool {
	p.mu.Lock()
	delay, gate := p.delay, p.gate
	p.mu.Unlock()
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.stop.Done():
		return false
	}
	select {
	case <-gate:
		return true
	case <-p.stop.Done():
		return false
	}
}

// Delay makes every piece wait; 0: none does.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Hold lets nothing through from now on, and keeps all connections open: neither
// side knows that the other one is gone. The function that it returns ends that.
func (p *Proxy) Hold() (release func()) {
	gate := make(chan struct{})
	p.mu.Lock()
	p.gate = gate
	p.mu.Unlock()
	return sync.OnceFunc(func() { close(gate) })
}

// Cut closes all connections at once, in the middle of whatever is sent, with a
// reset.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
}
