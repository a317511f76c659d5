package bus

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// EventQuery selects events and where to begin. Of FromSeq, Since and New at
// most one is used, in that order; without any the feed begins with the oldest
// event kept.
type EventQuery struct {
	// Subjects are filters such as those of [EventFilter]; none: all events.
	Subjects []string
	// FromSeq is the first sequence wanted.
	FromSeq uint64
	// Since is the earliest time wanted, by the server's clock.
	Since time.Time
	// New begins with what is told after the call.
	New bool
}

// StoredEvent is an event of the feed.
type StoredEvent struct {
	Seq     uint64 // in the feed: where to resume
	Subject string
	Name    op.EventName
	Target  string
	Data    []byte // an [op.Event] as JSON
	Time    time.Time
}

// Events delivers events in order, each once, until ctx ends, which ends the
// iteration without an error. An error is the last element.
func (b *Bus) Events(ctx context.Context, q EventQuery) iter.Seq2[StoredEvent, error] {
	return func(yield func(StoredEvent, error) bool) {
		cfg := feedConfig{stream: StreamEvents, filters: disjoint(q.Subjects), policy: jetstream.DeliverAllPolicy, batch: 500}
		switch {
		case q.FromSeq > 0:
			cfg.policy, cfg.after = jetstream.DeliverByStartSequencePolicy, q.FromSeq-1
		case !q.Since.IsZero():
			cfg.policy, cfg.since = jetstream.DeliverByStartTimePolicy, q.Since
		case q.New:
			// By sequence, so that nothing is lost when the feed has to begin
			// again before its first event.
			last, err := b.lastSeq(ctx, StreamEvents)
			if err != nil {
				yield(StoredEvent{}, err)
				return
			}
			cfg.policy, cfg.after = jetstream.DeliverByStartSequencePolicy, last
		}
		stopped := false
		err := b.feed(ctx, cfg, func(d delivery) bool {
			e := StoredEvent{Seq: d.seq, Subject: d.Subject(), Data: d.Data(), Time: d.time}
			var bad error
			if e.Name, e.Target, bad = ParseEvent(e.Subject); bad != nil {
				return true // not one of ours: whoever wrote it had no right to
			}
			stopped = !yield(e, nil)
			return !stopped
		})
		if err != nil && !stopped && ctx.Err() == nil {
			yield(StoredEvent{}, err)
		}
	}
}

// disjoint drops filters that another one covers, since the server refuses
// overlapping ones. Filters that overlap without one covering the other are
// left for the server to refuse.
func disjoint(filters []string) []string {
	var out []string
	for i, f := range filters {
		covered := slices.ContainsFunc(filters[:i], func(g string) bool { return g == f })
		for j, g := range filters {
			covered = covered || i != j && g != f && covers(g, f)
		}
		if !covered {
			out = append(out, f)
		}
	}
	return out
}

// covers reports whether every subject that matches f matches g.
func covers(g, f string) bool {
	gt, ft := strings.Split(g, "."), strings.Split(f, ".")
	for i, t := range gt {
		if t == ">" {
			return len(ft) > i
		}
		if i >= len(ft) || ft[i] == ">" || t != "*" && t != ft[i] {
			return false
		}
	}
	return len(gt) == len(ft)
}
