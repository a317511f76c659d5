package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/internal/registry"
	"github.com/hierarchy-bus/hierarchy/internal/service"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Options say how to look. The zero value is usable.
type Options struct {
	Version string // of the program that asks
	// Monitors are the addresses of the servers' monitoring ports, such as
	// http://127.0.0.1:8222. Without any, port 8222 of the server that we are
	// connected to is tried, and believed if it is the same server.
	Monitors []string
	// NoMonitor leaves monitoring ports alone.
	NoMonitor bool
	// Patience bounds the waiting for the answers of roles. 0 means 500 ms.
	Patience time.Duration
}

// Look gathers the facts. An error means that the server could not be asked;
// what only a part of it refuses is a fact.
func Look(ctx context.Context, b *bus.Bus, o Options) (*Facts, error) {
	if o.Patience == 0 {
		o.Patience = 500 * time.Millisecond
	}
	f := &Facts{At: time.Now().UTC(), Version: o.Version, Layout: b.Layout()}
	if err := f.server(ctx, b); err != nil {
		return nil, err
	}
	var g *errgroup.Group
	g, ctx = errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		f.Changes, err = bus.Diff(ctx, b.Conn(), b.Layout())
		return err
	})
	g.Go(func() error { return f.streams(ctx, b) })
	g.Go(func() error { return f.partitions(ctx, b) })
	g.Go(func() error { return f.policy(ctx, b) })
	g.Go(func() (err error) {
		f.Roles, err = Roles(ctx, b.Conn(), o.Patience)
		return err
	})
	g.Go(func() error { f.account(ctx, b); return nil })
	g.Go(func() error { f.observed(ctx, b, o.Patience); return nil })
	g.Go(func() error {
		if !o.NoMonitor {
			f.Monitors = monitors(ctx, o.Monitors, f.Server)
		}
		return nil
	})
	return f, g.Wait()
}

// server asks the connection about its other end.
func (f *Facts) server(ctx context.Context, b *bus.Bus) error {
	nc := b.Conn()
	rtt, err := nc.RTT()
	if err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	tls, err := nc.TLSConnectionState()
	f.Server = Server{
		Name: nc.ConnectedServerName(), ID: nc.ConnectedServerId(), Version: nc.ConnectedServerVersion(),
		Cluster: nc.ConnectedClusterName(), URL: nc.ConnectedUrlRedacted(), MaxPayload: nc.MaxPayload(), RTT: rtt,
		TLS: err == nil && tls.HandshakeComplete, Loopback: loopback(nc.ConnectedAddr()),
	}
	// The answer carries the server's clock. It was read between our two
	// readings, so the middle is wrong by half their distance at most.
	before := time.Now()
	s, err := b.JetStream().Stream(ctx, bus.StreamJournal)
	after := time.Now()
	if err != nil {
		return fmt.Errorf("doctor: journal: %w", err)
	}
	f.SkewError = after.Sub(before) / 2
	f.Skew = before.Add(f.SkewError).Sub(s.CachedInfo().TimeStamp)
	return nil
}

func (f *Facts) account(ctx context.Context, b *bus.Bus) {
	a, err := b.JetStream().AccountInfo(ctx)
	if err != nil {
		f.AccountError = err.Error()
		return
	}
	f.Account = Account{
		Memory: a.Memory, Store: a.Store, MaxMemory: a.Limits.MaxMemory, MaxStore: a.Limits.MaxStore,
		Streams: a.Streams, Consumers: a.Consumers, MaxStreams: a.Limits.MaxStreams, MaxConsumer: a.Limits.MaxConsumers,
	}
}

// ours reports whether a stream is one of Hierarchy's.
func ours(name string) bool {
	return strings.HasPrefix(name, "OPS_") || strings.HasPrefix(name, "KV_OPS_") || strings.HasPrefix(name, "OBJ_OPS_")
}

func (f *Facts) streams(ctx context.Context, b *bus.Bus) error {
	l := b.JetStream().ListStreams(ctx)
	for info := range l.Info() {
		c := info.Config
		if !ours(c.Name) {
			continue
		}
		s := Stream{
			Name: c.Name, Replicas: c.Replicas, File: c.Storage.String() == "File", Async: c.PersistMode != 0,
			Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxMsgs: c.MaxMsgs, MaxBytes: c.MaxBytes, MaxAge: c.MaxAge,
			FirstSeq: info.State.FirstSeq, Deleted: uint64(max(info.State.NumDeleted, 0)),
		}
		if cl := info.Cluster; cl != nil && cl.Name != "" {
			s.Clustered, s.Leader, s.Followers = true, cl.Leader, len(cl.Replicas)
			s.Servers = append(s.Servers, cl.Leader)
			for _, r := range cl.Replicas {
				s.Servers = append(s.Servers, r.Name)
				if r.Offline || !r.Current {
					s.Missing++
				}
			}
		}
		f.Streams = append(f.Streams, s)
	}
	slices.SortFunc(f.Streams, func(a, b Stream) int { return strings.Compare(a.Name, b.Name) })
	if err := l.Err(); err != nil {
		return fmt.Errorf("doctor: streams: %w", err)
	}
	return nil
}

// The bucket and the keys of the resolvers' leases.
const (
	leaseBucket = "OPS_LEASES"
	leasePrefix = "resolver."
)

// Leases returns the names of the resolvers that are alive by their leases,
// sorted.
func Leases(ctx context.Context, b *bus.Bus) ([]string, error) {
	kv, err := b.JetStream().KeyValue(ctx, leaseBucket)
	if err != nil {
		return nil, fmt.Errorf("doctor: leases: %w", err)
	}
	keys, err := kv.ListKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("doctor: leases: %w", err)
	}
	var names []string
	for k := range keys.Keys() {
		if name, ok := strings.CutPrefix(k, leasePrefix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// partitions reads the leases and the end of each partition.
func (f *Facts) partitions(ctx context.Context, b *bus.Bus) (err error) {
	if f.Leases, err = Leases(ctx, b); err != nil {
		return err
	}
	f.Partitions = make([]Partition, b.Layout().Partitions)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for id := range f.Partitions {
		g.Go(func() error { return f.Partitions[id].read(ctx, b, id) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("doctor: partitions: %w", err)
	}
	return nil
}

func (p *Partition) read(ctx context.Context, b *bus.Bus, id int) error {
	p.ID = id
	e, found, err := b.JournalLast(ctx, id)
	if err != nil {
		return err
	}
	var s arbiter.Step
	if found {
		if err := json.Unmarshal(e.Data, &s); err != nil {
			return fmt.Errorf("journal entry %d: %w", e.Seq, err)
		}
		p.Owner, p.Step, p.At, p.Stored = s.Owner, s.Number, s.At, e.Time
	}
	if p.Mark, err = b.Mark(ctx, id); err != nil {
		return err
	}
	last, err := b.LastIntake(ctx, id)
	p.Unread = last > s.Cursor
	return err
}

func (f *Facts) policy(ctx context.Context, b *bus.Bus) error {
	data, rev, err := b.Policy(ctx)
	if err != nil {
		return fmt.Errorf("doctor: policy: %w", err)
	}
	f.Policy.Revision = rev
	p, err := arbiter.ParsePolicy(data, rev)
	if err == nil {
		_, err = registry.New(p)
	}
	if err != nil {
		f.Policy.Error = err.Error()
		p = arbiter.DefaultPolicy()
	}
	return f.pools(ctx, b, &p)
}

// pools asks the server who fetches the work of the registered types.
func (f *Facts) pools(ctx context.Context, b *bus.Bus, p *arbiter.Policy) error {
	of := map[string][]string{op.DefaultPool: nil}
	for _, name := range slices.Sorted(maps.Keys(p.Types)) {
		pool := cmp.Or(p.Types[name].Pool, op.DefaultPool)
		of[pool] = append(of[pool], name)
	}
	s, err := b.JetStream().Stream(ctx, bus.StreamWork)
	if err != nil {
		return fmt.Errorf("doctor: work: %w", err)
	}
	found := map[string]Pool{}
	consumers := s.ListConsumers(ctx)
	for c := range consumers.Info() {
		found[c.Name] = Pool{Known: true, Waiting: c.NumWaiting, Unacked: c.NumAckPending, Pending: c.NumPending}
	}
	if err := consumers.Err(); err != nil {
		return fmt.Errorf("doctor: work: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		pool := found[bus.WorkConsumer(name)]
		pool.Name, pool.Types = name, of[name]
		f.Pools = append(f.Pools, pool)
	}
	return nil
}

// observed asks an observer; nobody has to answer.
func (f *Facts) observed(ctx context.Context, b *bus.Bus, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	m, err := b.Conn().RequestWithContext(ctx, bus.APISubject("health"), nil)
	if err != nil {
		return
	}
	var h observer.Health
	if json.Unmarshal(m.Data, &h) == nil && h.Type == observer.HealthType {
		f.Observed = &Observed{Status: string(h.Status), Reasons: h.Reasons}
	}
}

// RoleNames are the roles, in the order in which an operation meets them.
func RoleNames() []string { return []string{"submitter", "resolver", "executor", "observer"} }

// Roles asks every instance of every role for its status, and returns the answers
// that come within the patience, by role and name.
func Roles(ctx context.Context, nc *nats.Conn, patience time.Duration) ([]service.Status, error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("doctor: roles: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // it fails only on a closed connection
	for _, role := range RoleNames() {
		if err := nc.PublishRequest(service.Subject(role), inbox, nil); err != nil {
			return nil, fmt.Errorf("doctor: roles: %w", err)
		}
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var all []service.Status
	for {
		m, err := sub.NextMsgWithContext(wait)
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			continue
		case err != nil && wait.Err() != nil && ctx.Err() == nil:
			slices.SortFunc(all, byRole)
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("doctor: roles: %w", err)
		}
		var s service.Status
		if json.Unmarshal(m.Data, &s) == nil && s.Role != "" {
			all = append(all, s)
		}
	}
}

func byRole(a, b service.Status) int {
	at := func(s service.Status) int { return slices.Index(RoleNames(), s.Role) }
	if d := at(a) - at(b); d != 0 {
		return d
	}
	return strings.Compare(a.Name, b.Name)
}
