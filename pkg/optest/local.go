package optest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/pkg/client"
)

// Local is a whole system in this process. Its methods may be called from any
// goroutine. [System] is the same with what a test wants to ask.
type Local struct {
	c      *cluster.Cluster
	nc     *nats.Conn
	client *client.Client
	dir    string // to be removed, or ""
	tell   *told

	mu    sync.Mutex
	rules rules // those of the policy in force
}

// Open starts a system for a program; in a test, [Start] is simpler. The caller
// ends it with [Local.Close]. The end of ctx only gives up starting.
func Open(ctx context.Context, opts ...Option) (*Local, error) {
	cfg, err := configure(opts)
	if err != nil {
		return nil, err
	}
	own := ""
	if cfg.StoreDir == "" { // the server keeps notes there even when the data are in memory
		if own, err = os.MkdirTemp("", "optest-"); err != nil {
			return nil, fmt.Errorf("optest: %w", err)
		}
		cfg.StoreDir = own
	}
	l, err := open(ctx, cfg)
	if err != nil {
		if own != "" {
			err = errors.Join(err, os.RemoveAll(own))
		}
		return nil, err
	}
	l.dir = own
	return l, nil
}

// open starts a system whose directory is the caller's.
func open(ctx context.Context, cfg *config) (*Local, error) {
	c, err := cluster.Start(ctx, cfg.Options)
	if err != nil {
		return nil, fmt.Errorf("optest: %w", err)
	}
	l := &Local{c: c, rules: cfg.rules}
	if l.nc, err = c.Connect(nats.Name("optest")); err == nil {
		l.client, l.tell = client.New(l.nc), listen(c.Bus())
		return l, nil
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return nil, errors.Join(fmt.Errorf("optest: %w", err), c.Stop(stop))
}

// closeTimeout bounds the end of a system: handlers that run have a moment to
// finish.
const closeTimeout = 15 * time.Second

// Close ends everything: handlers that run may finish within two seconds, then
// their contexts end. Every connection of [Local.Connect] is closed. Closing
// twice is fine.
func (l *Local) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	l.tell.stop()
	err := l.c.Stop(ctx)
	if l.dir != "" {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	if err != nil {
		return fmt.Errorf("optest: close: %w", err)
	}
	return nil
}

// Conn is a connection to the system for common use. Do not close it.
func (l *Local) Conn() *nats.Conn { return l.nc }

// Connect opens another connection, through no socket. It is closed with the
// system.
func (l *Local) Connect(opts ...nats.Option) (*nats.Conn, error) { return l.c.Connect(opts...) }

// URL is the address for other processes, empty without [WithListener].
func (l *Local) URL() string { return l.c.ClientURL() }

// Roles names the roles that [Local.Kill] and [Local.Restart] know: submitter-1,
// executor-1, executor-<pool>-1, resolver-1, observer-1 and so on.
func (l *Local) Roles() []string { return l.c.Names() }

// Kill cuts a role off, as the death of its process would: its connection is
// gone, its lease runs out, and what it had taken in hand comes back to others
// later. A handler in Go that runs is not stopped: its context ends after a
// while, and nothing that it returns has an effect.
func (l *Local) Kill(role string) error { return l.c.Kill(role) }

// Restart starts a role again, after killing it if it runs, and returns when it
// serves. A resolver waits for the end of its predecessor's lease, a second.
func (l *Local) Restart(ctx context.Context, role string) error { return l.c.Restart(ctx, role) }

// ChangePolicy changes the rules that text names, as [WithPolicy] does, and returns
// when every partition decides under them. A null brings back a field's default.
func (l *Local) ChangePolicy(ctx context.Context, text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := rules{}
	before, _ := l.rules.text() // it is in force
	if before != nil {
		_ = changed.merge(string(before))
	}
	err := changed.merge(text)
	if err != nil {
		return err
	}
	policy, err := changed.text()
	if err != nil {
		return err
	}
	if policy == nil {
		policy = []byte("{}")
	}
	b := l.c.Bus()
	rev, err := b.PutPolicy(ctx, policy)
	if err != nil {
		return fmt.Errorf("optest: write the policy: %w", err)
	}
	l.rules = changed
	waiting := map[int]bool{}
	for p := range b.Layout().Partitions {
		waiting[p] = true
	}
	for e, err := range b.JournalFollow(ctx, 0) {
		if err != nil {
			return fmt.Errorf("optest: wait for the policy: %w", err)
		}
		if inForce(&e) >= rev {
			delete(waiting, e.Partition)
		}
		if len(waiting) == 0 {
			return nil
		}
	}
	return fmt.Errorf("optest: wait for the policy: %w", context.Cause(ctx))
}

// inForce is the revision of the policy that a step puts in force, or 0.
func inForce(e *bus.Entry) (rev uint64) {
	var step struct {
		In []struct {
			Policy *struct {
				Revision uint64 `json:"revision"`
			} `json:"policy"`
		} `json:"in"`
	}
	if json.Unmarshal(e.Data, &step) != nil {
		return 0
	}
	for _, in := range step.In {
		if in.Policy != nil {
			rev = max(rev, in.Policy.Revision)
		}
	}
	return rev
}
