package torture

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
)

// source draws from the seed, apart from what is drawn for other purposes.
func source(seed uint64, purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose))               // a hash never fails
	return rand.New(rand.NewPCG(seed, h.Sum64())) //nolint:gosec // reproducible on purpose
}

// site is everything that a run has started.
type site struct {
	Options
	dir, logs string
	url       string // of all servers
	servers   []*slot
	roles     []*slot
	nc        *nats.Conn
	bus       *bus.Bus

	mu         sync.Mutex
	unexpected []string // processes that ended by themselves
	outages    []span   // when too few servers ran to go on
	hurt       []span   // when a server was down, stopped, or not yet well again
	hits       map[string]int
}

// span is a piece of time; an open one has no end yet.
type span struct{ from, to time.Time }

// newSite starts the servers, or connects to those of the user, and starts the
// roles.
func newSite(ctx context.Context, o Options) (*site, error) {
	s := &site{Options: o, hits: map[string]int{}}
	var err error
	if s.dir, err = os.MkdirTemp(o.Dir, "hierarchy-torture-"); err != nil {
		return nil, fmt.Errorf("torture: %w", err)
	}
	s.logs = filepath.Join(s.dir, "logs")
	if err := os.Mkdir(s.logs, 0o750); err != nil {
		return nil, fmt.Errorf("torture: %w", err)
	}
	if o.Server {
		s.nc, err = o.Connect(nats.MaxReconnects(-1))
		if err == nil {
			s.bus, err = bus.Open(ctx, s.nc)
		}
	} else {
		err = s.own(ctx)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// own starts servers and sets them up.
func (s *site) own(ctx context.Context) error {
	if err := s.startServers(); err != nil {
		return err
	}
	if err := s.healthy(ctx, time.Minute); err != nil {
		return err
	}
	var err error
	if s.nc, err = nats.Connect(s.url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(20*time.Millisecond, 0)); err != nil {
		return fmt.Errorf("torture: connect: %w", err)
	}
	if err := s.setup(ctx); err != nil {
		return err
	}
	if s.bus, err = bus.Open(ctx, s.nc); err != nil {
		return err
	}
	_, err = s.bus.PutPolicy(ctx, []byte(policy(24*time.Hour)))
	return err
}

// setup repeats itself while a cluster that has just started has no leader.
func (s *site) setup(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, 15*time.Second)
		_, err := bus.Setup(try, s.nc, layout(s.Nodes, s.Partitions))
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		rest(ctx, 500*time.Millisecond)
	}
}

func (s *site) startServers() error {
	ports, err := natsd.FreePorts(3 * s.Nodes)
	if err != nil {
		return err
	}
	var urls, routes []string
	for i := range s.Nodes {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[3*i]))
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", ports[3*i+2]))
	}
	s.url = strings.Join(urls, ",")
	for i := range s.Nodes {
		name := fmt.Sprintf("n%d", i+1)
		args := []string{
			partServer, "--name", name, "--store", filepath.Join(s.dir, name),
			"--port", fmt.Sprint(ports[3*i]), "--monitor", fmt.Sprint(ports[3*i+1]),
		}
		if s.Nodes > 1 {
			args = append(args, "--cluster-port", fmt.Sprint(ports[3*i+2]), "--routes", strings.Join(routes, ","))
		}
		if s.Sync {
			args = append(args, "--sync")
		}
		v := &slot{site: s, role: partServer, base: name, monitor: ports[3*i+1], args: func(string) []string { return args }}
		s.servers = append(s.servers, v)
		if err := v.start(); err != nil {
			return err
		}
	}
	return nil
}

// healthy waits until every server says that it has caught up.
func (s *site) healthy(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, v := range s.servers {
		if err := v.healthy(ctx); err != nil {
			return err
		}
	}
	return nil
}

// healthy waits until the server's own page says that it is well.
func (v *slot) healthy(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if v.well(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("torture: the server %s is not well: %w", v.base, ctx.Err())
		}
	}
}

func (v *slot) well(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/healthz", v.monitor), nil)
	if err != nil {
		return false
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	_ = a.Body.Close()
	return a.StatusCode == http.StatusOK
}

// role adds a place for a process of one role, and starts the first.
func (s *site) role(kind, base string, more ...string) (*slot, error) {
	rng := source(s.Seed, base)
	v := &slot{site: s, role: kind, base: base, pause: func() time.Duration { return time.Duration(rng.Int64N(int64(500 * time.Millisecond))) }}
	v.args = func(name string) []string {
		args := append([]string{kind, "--name", name, "--drain-timeout", "3s"}, more...)
		if s.Server {
			return append(args, s.Flags...)
		}
		return append(args, "--server", s.url)
	}
	s.mu.Lock()
	s.roles = append(s.roles, v)
	s.mu.Unlock()
	return v, v.start()
}

func (s *site) resolver(base string) (*slot, error) {
	if s.Server {
		return s.role(partResolver, base) // the habits of a user's system are its own
	}
	return s.role(partResolver, base, resolverFlags()...)
}

func resolverFlags() []string {
	return []string{"--lease", roleLease.String(), "--snapshot-every", fmt.Sprint(snapshotEvery)}
}

// team starts the roles of a run: so many resolvers, executors and submitters, an
// observer and somebody who changes the policy.
func (s *site) team(resolvers, executors, submitters int) error {
	for i := range resolvers {
		if _, err := s.resolver(fmt.Sprintf("r%d", i+1)); err != nil {
			return err
		}
	}
	for i := range executors {
		if _, err := s.role(partExecutor, fmt.Sprintf("x%d", i+1)); err != nil {
			return err
		}
	}
	for i := range submitters {
		if _, err := s.role(partSubmitter, fmt.Sprintf("s%d", i+1)); err != nil {
			return err
		}
	}
	if s.Server {
		return nil
	}
	_, err := s.role(partObserver, "o1")
	if err == nil {
		_, err = s.role(partOperator, "p1")
	}
	return err
}

// down notes that so many servers are about to be hurt, up that all are well
// again.
func (s *site) down(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hurt = begin(s.hurt)
	if n > (s.Nodes-1)/2 {
		s.outages = begin(s.outages)
	}
}

func (s *site) up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, spans := range [][]span{s.hurt, s.outages} {
		if n := len(spans); n > 0 && spans[n-1].to.IsZero() {
			spans[n-1].to = time.Now()
		}
	}
}

// begin adds a span, unless one is open.
func begin(spans []span) []span {
	if n := len(spans); n > 0 && spans[n-1].to.IsZero() {
		return spans
	}
	return append(spans, span{from: time.Now()})
}

// hit counts a failpoint that has acted: "NAME ACTION".
func (s *site) hit(what string) {
	if what != "" {
		s.mu.Lock()
		s.hits[what]++
		s.mu.Unlock()
	}
}

// surprise notes what no fault of ours explains.
func (s *site) surprise(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	s.unexpected = append(s.unexpected, text)
	s.mu.Unlock()
	s.Say("UNEXPECTED: " + text)
}

// close ends every process.
func (s *site) close() {
	if s.nc != nil {
		s.nc.Close()
	}
	var wg sync.WaitGroup
	for _, v := range append(append([]*slot{}, s.roles...), s.servers...) {
		wg.Go(v.close)
	}
	wg.Wait()
}

// remove drops what the run has left on the disk.
func (s *site) remove() error {
	if err := os.RemoveAll(s.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("torture: %w", err)
	}
	return nil
}
