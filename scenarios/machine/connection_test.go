package machine

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/scenarios/rig"
)

// proxied is a rig of which clients and roles see nothing but proxies.
type proxied struct {
	*rig.Rig
	proxies []*rig.Proxy
	book    *rig.Book
}

func newProxied(t *testing.T, name string) *proxied {
	t.Helper()
	p := &proxied{Rig: rig.New(t, rig.Options{Nodes: 3, SyncAlways: true})}
	var urls []string
	for _, n := range p.Nodes {
		x := rig.NewProxy(t, fmt.Sprintf("%s:%d", n.Host, n.Client)) //nolint:nosprintfhostport // IPv4
		p.proxies, urls = append(p.proxies, x), append(urls, x.URL())
	}
	all := strings.Join(urls, ",")
	for role, names := range map[string][]string{"resolver": {"r1", "r2"}, "executor": {"x1", "x2"}, "submitter": {"s1"}} {
		for _, name := range names {
			p.RoleAt(all, role, name, nil)
		}
	}
	p.book = p.Load(name, 16, p.DialTo(all), p.DialTo(all), p.DialTo(all))
	return p
}

func (p *proxied) each(f func(*rig.Proxy)) {
	for _, x := range p.proxies {
		f(x)
	}
}

// Connections of clients and roles are slow, are reset in the middle of a message, and
// hang half open; beside them, subscribers never read what they asked for.
func TestBadConnections(t *testing.T) {
	rounds := times(1, 6)
	p := newProxied(t, "conn")
	report := rig.Report{
		Fault:   "connections of clients and roles: 50 ms delay each way, resets every second, seconds half open; subscribers that never read",
		Setting: setting(true), Repetitions: rounds,
	}
	for range rounds {
		p.book.AwaitMore(200, 60*time.Second)
		deaf := p.deaf(10)
		p.each(func(x *rig.Proxy) { x.Delay(50 * time.Millisecond) })
		rig.After(t, time.Duration(times(2, 3))*time.Second)
		p.each(func(x *rig.Proxy) { x.Delay(0) })
		for range 3 {
			p.each((*rig.Proxy).Cut)
			rig.After(t, time.Second)
		}
		var ends []func()
		p.each(func(x *rig.Proxy) { ends = append(ends, x.Hold()) })
		rig.After(t, time.Duration(times(3, 6))*time.Second)
		for _, end := range ends {
			end()
		}
		report.Back = max(report.Back, p.book.AwaitMore(1, 60*time.Second))
		for _, c := range deaf {
			_ = c.Close()
		}
	}
	p.book.AwaitMore(100, 60*time.Second)
	report.Balance = p.book.Settle()
	report.Verify(p.Rig, p.book)
	report.Tell(p.Rig)
	report.Demand(p.Rig, 200*rounds)
}

// deaf are subscribers to everything that never read.
func (p *proxied) deaf(n int) (conns []net.Conn) {
	for i := range n {
		node := p.Nodes[i%len(p.Nodes)]
		c, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(p.T.Context(), "tcp", fmt.Sprintf("%s:%d", node.Host, node.Client)) //nolint:nosprintfhostport // IPv4
		if err != nil {
			p.T.Fatal(err)
		}
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetReadBuffer(4 << 10)
		}
		if _, err := c.Write([]byte("CONNECT {\"verbose\":false}\r\nSUB ops.> 1\r\nSUB $KV.> 2\r\nPING\r\n")); err != nil {
			p.T.Fatal(err)
		}
		conns = append(conns, c)
	}
	return conns
}
