package resolver

import (
	"sync/atomic"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

const (
	// loadEvery is how often a partition that is filling up says so. Whoever
	// listens believes it for a second, so one message may be lost (ADR 0013).
	loadEvery = 200 * time.Millisecond
	// burstEvery is how soon it looks again when much arrives: one that waited for
	// the next time would be full by then, and whatever follows be shed.
	burstEvery = 20 * time.Millisecond
	// burstLeast is what counts as much where little may be staged: a look goes
	// through all that is open.
	burstLeast = 100
	// gaugeEvery is how often the age of the oldest operation is looked up.
	gaugeEvery = time.Second
)

// loadNews is when the partition last looked at how full it is, and whether it
// told so.
type loadNews struct {
	looked  time.Time
	arrived int // inputs since
	gauged  time.Time
	crowded bool
}

// watch looks, now and then, at how full the partition is and how old its oldest
// operation, and tells.
func (p *partition) watch(now time.Time) {
	since := now.Sub(p.crowd.looked)
	if since < loadEvery && (since < burstEvery || p.crowd.arrived < max(p.machine.Policy().MaxStaged/8, burstLeast)) {
		return
	}
	p.crowd.looked, p.crowd.arrived = now, 0
	if now.Sub(p.crowd.gauged) >= gaugeEvery {
		p.crowd.gauged = now
		age := 0.0
		if oldest, ok := p.ages.oldest(p.machine); ok {
			age = max(0, p.clock.now().Sub(oldest).Seconds())
		}
		p.cfg.Metrics.OldestPending.WithLabelValues(partitionToken(p.id)).Set(age)
	}
	policy := p.machine.Policy()
	l := p.machine.Load()
	crowded := policy.MaxOpen > 0 && 2*l.Open >= policy.MaxOpen || len(l.Targets) > 0
	if !crowded && !p.crowd.crowded {
		return
	}
	p.crowd.crowded = crowded // the first news that are good are told, too
	news := newsOf(p.id, &policy, &l)
	p.crowds.are(news.Targets)
	if err := p.bus.PublishLoad(news); err != nil {
		p.log.Debug("how full the partition is could not be told", "error", err)
	}
}

// crowds are the targets that the last news called crowded. The zero value has none.
// It is safe for concurrent use.
type crowds struct {
	targets atomic.Pointer[map[string]int]
}

// are replaces them; the map must not change any more.
func (c *crowds) are(targets map[string]int) { c.targets.Store(&targets) }

func (c *crowds) has(target string) bool {
	targets := c.targets.Load()
	return targets != nil && (*targets)[target] > 0
}

func newsOf(partition int, policy *arbiter.Policy, l *arbiter.Load) bus.Load {
	news := bus.Load{
		Partition: partition, Open: l.Open, MaxOpen: policy.MaxOpen, MaxStaged: policy.MaxStaged,
		RetryAfterMS: policy.RetryAfter().Milliseconds(),
	}
	if len(l.Targets) > 0 {
		news.Targets = make(map[string]int, len(l.Targets))
	}
	for _, t := range l.Targets {
		news.Targets[t.ID] = t.Staged
	}
	return news
}
