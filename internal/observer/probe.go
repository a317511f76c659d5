package observer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
)

// The buckets that a probe looks into, as the server names them.
const (
	leaseBucket   = "OPS_LEASES"
	leasePrefix   = "resolver."
	deadBucket    = "OPS_DEAD"
	entityStream  = "KV_OPS_ENTITIES"
	streamPattern = "OPS_"
)

// probe is what the server says about itself and the roles.
type probe struct {
	at   time.Time // of the last attempt
	good time.Time // of the last one that succeeded, or of the start
	err  error     // of the last one

	resolvers   int
	intakeFull  float64 // 0 to 1
	intakeLast  uint64
	journalLast uint64
	registry    bool // the stream of the entities is there
	entities    uint64
	entityBytes uint64
	waiting     map[int]uint64 // partitions with unread intake, and their cursor
	stalled     []int          // those that have not moved since the last probe, in order
	queued      uint64
	dead        int // dead letters
}

// prober asks the server. Not safe for concurrent use.
type prober struct {
	b *bus.Bus
	m *metrics.Observer

	deadSeq uint64 // last sequence of the dead letters when they were counted
	dead    int
}

// ask makes a new probe. cursors are where the partitions stand by the journal;
// one that had unread intake in the last probe and has not moved is stalled.
func (q *prober) ask(ctx context.Context, now time.Time, last probe, cursors map[int]uint64) probe {
	p := probe{at: now, good: last.good, registry: last.registry, resolvers: last.resolvers}
	p.err = q.fill(ctx, &p, last.waiting, cursors)
	if p.err == nil {
		p.good = now
	}
	return p
}

func (q *prober) fill(ctx context.Context, p *probe, before, cursors map[int]uint64) error {
	if err := q.streams(ctx, p); err != nil {
		return err
	}
	if err := q.leases(ctx, p); err != nil {
		return err
	}
	if err := q.work(ctx); err != nil {
		return err
	}
	return q.intake(ctx, p, before, cursors)
}

// streams reads the size of every stream.
func (q *prober) streams(ctx context.Context, p *probe) error {
	p.registry = false
	l := q.b.JetStream().ListStreams(ctx)
	for info := range l.Info() {
		name := info.Config.Name
		if !strings.Contains(name, streamPattern) {
			continue
		}
		q.m.StreamMessages.WithLabelValues(name).Set(float64(info.State.Msgs))
		q.m.StreamBytes.WithLabelValues(name).Set(float64(info.State.Bytes))
		switch name {
		case entityStream:
			p.registry, p.entities, p.entityBytes = true, info.State.Msgs, info.State.Bytes
		case "KV_" + deadBucket:
			if err := q.letters(ctx, info.State.LastSeq, info.State.Msgs); err != nil {
				return err
			}
			p.dead = q.dead
		case bus.StreamJournal:
			p.journalLast = info.State.LastSeq
		case bus.StreamIntake:
			p.intakeLast = info.State.LastSeq
			p.intakeFull = max(share(info.State.Msgs, info.Config.MaxMsgs), share(info.State.Bytes, info.Config.MaxBytes))
		}
	}
	if err := l.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	return nil
}

// letters counts the dead letters, if there is news of them: the stream holds
// markers of those that are gone, too.
func (q *prober) letters(ctx context.Context, last, stored uint64) error {
	if last == q.deadSeq && stored >= uint64(q.dead) {
		return nil
	}
	kv, err := q.b.JetStream().KeyValue(ctx, deadBucket)
	if err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	keys, err := kv.ListKeys(ctx)
	if err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	n := 0
	for range keys.Keys() {
		n++
	}
	q.deadSeq, q.dead = last, n
	q.m.DeadLetters.Set(float64(n))
	return nil
}

func share(n uint64, limit int64) float64 {
	if limit <= 0 {
		return 0
	}
	return float64(n) / float64(limit)
}

// leases counts the resolvers that are alive.
func (q *prober) leases(ctx context.Context, p *probe) error {
	kv, err := q.b.JetStream().KeyValue(ctx, leaseBucket)
	if err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	keys, err := kv.ListKeys(ctx)
	if err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	p.resolvers = 0
	for k := range keys.Keys() {
		if strings.HasPrefix(k, leasePrefix) {
			p.resolvers++
		}
	}
	q.m.Resolvers.Set(float64(p.resolvers))
	return nil
}

// work reads how much the executors have before them.
func (q *prober) work(ctx context.Context) error {
	s, err := q.b.JetStream().Stream(ctx, bus.StreamWork)
	if err != nil {
		return fmt.Errorf("work: %w", err)
	}
	unacked := 0
	pools := s.ListConsumers(ctx)
	for c := range pools.Info() {
		unacked += c.NumAckPending
	}
	if err := pools.Err(); err != nil {
		return fmt.Errorf("work: %w", err)
	}
	// What is not in some executor's hands waits, maybe for a pool without one.
	q.m.WorkPending.Set(max(0, float64(s.CachedInfo().State.Msgs)-float64(unacked)))
	q.m.WorkUnacked.Set(float64(unacked))
	return nil
}

// intake finds the partitions whose resolver is behind the log.
func (q *prober) intake(ctx context.Context, p *probe, before, cursors map[int]uint64) error {
	p.waiting = map[int]uint64{}
	newest := uint64(0)
	for _, c := range cursors {
		newest = max(newest, c)
	}
	for n := range q.b.Layout().Partitions {
		last, err := q.b.LastIntake(ctx, n)
		if err != nil {
			return fmt.Errorf("intake: %w", err)
		}
		if last <= cursors[n] {
			continue
		}
		p.waiting[n] = cursors[n]
		if cursor, waited := before[n]; waited && cursor == cursors[n] {
			p.stalled = append(p.stalled, n)
		}
	}
	p.queued = uint64(len(p.waiting))
	if p.queued > 0 && p.intakeLast > newest {
		p.queued = max(p.queued, p.intakeLast-newest)
	}
	return nil
}
