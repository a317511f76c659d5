package natsd

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// clusterTimeout bounds the start of a cluster and the return of a server to
// it. An election takes at most nine seconds.
const clusterTimeout = 30 * time.Second

// Cluster is a JetStream cluster on loopback, for tests. Its methods may be
// called from any goroutine, but a server must not be stopped and started by
// two of them at once.
type Cluster struct {
	mu      sync.Mutex
	opts    []*server.Options
	servers []*server.Server // nil: stopped
}

// StartCluster starts n servers with their files under dir and returns when
// they have a leader and know each other.
func StartCluster(n int, dir string) (*Cluster, error) {
	ports, err := FreePorts(2 * n)
	if err != nil {
		return nil, err
	}
	var routes []string
	for i := range n {
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", ports[n+i]))
	}
	c := &Cluster{servers: make([]*server.Server, n)}
	for i := range n {
		o, err := Options{
			Name: fmt.Sprintf("n%d", i), StoreDir: filepath.Join(dir, fmt.Sprintf("n%d", i)), Port: ports[i],
			MaxStore:    64 << 30, // reservations only: the table of streams reserves its limits on every server
			ClusterPort: ports[n+i], Routes: routes,
		}.server()
		if err != nil {
			return nil, err
		}
		c.opts = append(c.opts, o)
	}
	for i := range n {
		if c.servers[i], err = start(c.opts[i].Clone(), nil); err != nil {
			c.Stop()
			return nil, err
		}
	}
	if err := c.wait(); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// FreePorts asks the kernel for n ports of loopback at once, so that they differ.
// Nothing keeps them: somebody else may be faster.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("natsd: no free port: %w", err)
		}
		defer l.Close() //nolint:errcheck // nothing was written
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// wait returns when one server leads all and every running one is current.
func (c *Cluster) wait() error {
	deadline := time.Now().Add(clusterTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		if c.settled() {
			return nil
		}
		<-tick.C
	}
	return fmt.Errorf("natsd: the cluster had no leader within %s", clusterTimeout)
}

func (c *Cluster) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	leader, running := false, 0
	for _, s := range c.servers {
		if s == nil {
			continue
		}
		running++
		if !s.Running() || !s.JetStreamIsCurrent() {
			return false
		}
		if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(c.servers) {
			leader = true
		}
	}
	return leader && running > 0
}

// URLs lists the addresses of all servers, joined as [nats.Connect] wants them.
func (c *Cluster) URLs() string {
	var u []string
	for _, o := range c.opts {
		u = append(u, fmt.Sprintf("nats://127.0.0.1:%d", o.Port))
	}
	return strings.Join(u, ",")
}

// Connect opens a connection that finds another server when its own goes away.
func (c *Cluster) Connect(opts ...nats.Option) (*nats.Conn, error) {
	o := append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(10*time.Millisecond, 0)}, opts...)
	nc, err := nats.Connect(c.URLs(), o...)
	if err != nil {
		return nil, fmt.Errorf("natsd: connect: %w", err)
	}
	return nc, nil
}

// Leader is the index of the server that leads stream, or -1.
func (c *Cluster) Leader(stream string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.servers {
		if s != nil && s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			return i
		}
	}
	return -1
}

// StepDown has the leader of stream hand over to another server. It returns
// when the server has agreed, which is before the new leader is known.
func (c *Cluster) StepDown(ctx context.Context, nc *nats.Conn, stream string) error {
	return stepDown(ctx, nc, "$JS.API.STREAM.LEADER.STEPDOWN."+stream)
}

// ConsumerStepDown does the same for the leader of a consumer.
func (c *Cluster) ConsumerStepDown(ctx context.Context, nc *nats.Conn, stream, consumer string) error {
	return stepDown(ctx, nc, "$JS.API.CONSUMER.LEADER.STEPDOWN."+stream+"."+consumer)
}

func stepDown(ctx context.Context, nc *nats.Conn, subject string) error {
	r, err := nc.RequestWithContext(ctx, subject, nil)
	if err != nil {
		return fmt.Errorf("natsd: step down: %w", err)
	}
	var a struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(r.Data, &a); err != nil {
		return fmt.Errorf("natsd: step down: %w", err)
	}
	if a.Error != nil {
		return fmt.Errorf("natsd: step down: %s", a.Error.Description)
	}
	return nil
}

// StopServer shuts down server i gracefully. Its files stay.
func (c *Cluster) StopServer(i int) {
	c.mu.Lock()
	s := c.servers[i]
	c.servers[i] = nil
	c.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

// StartServer starts server i again on its files and waits until it is current.
func (c *Cluster) StartServer(i int) error {
	s, err := start(c.opts[i].Clone(), nil)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.servers[i] = s
	c.mu.Unlock()
	return c.wait()
}

// Stop shuts all servers down. Calling it twice is fine.
func (c *Cluster) Stop() {
	for i := range c.servers {
		c.StopServer(i)
	}
}
