package torture

import (
	"cmp"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// Gap is a time in which something waited and nothing was served.
type Gap struct {
	Target string        `json:"target,omitempty"` // "": of the whole system
	From   time.Time     `json:"from"`
	Length time.Duration `json:"length"` // in nanoseconds
	// Blamed is the part of it that our processes have to answer for: what came
	// after the last server that was hurt meanwhile was well again, and of a target
	// after the last time that somebody who was bound to fail took its partition.
	// Each of those is a fault of its own, and has the bound for itself.
	Blamed time.Duration `json:"blamed"`
	// Longest is the longest gap there was, servers or not; it may be another one.
	Longest time.Duration `json:"longest"`
}

// change is what happens at an instant: more or fewer operations wait, or one was
// served.
type change struct {
	at     time.Time
	waits  int // +1 acknowledged, -1 ended
	served bool
}

// gaps computes the longest gap of each target and of the system as a whole. An
// operation waits from its acknowledgement to its end; a target is served when one
// of its operations is granted or ends. doomed says of an owner that it was bound to
// fail.
func (g *ledger) gaps(b *book, hurt []span, partitions int, doomed func(owner string) bool) (targets []Gap, all Gap) {
	lines := b.all()
	g.mu.Lock()
	defer g.mu.Unlock()
	by := map[string][]change{}
	add := func(target string, c change) { by[target] = append(by[target], c) }
	for _, l := range lines {
		f := g.fates[l.id]
		if f == nil || f.ends == 0 {
			continue // the balance tells about those
		}
		from := l.acked
		if from.IsZero() || from.After(f.end) {
			from = f.first
		}
		add(f.target, change{at: from, waits: 1})
		add(f.target, change{at: f.end, waits: -1})
	}
	var every []change
	for target := range by {
		for _, at := range g.served[target] {
			add(target, change{at: at, served: true})
		}
		every = append(every, by[target]...)
		worst := longest(by[target], g.faults(bus.PartitionOf(target, partitions), hurt, doomed))
		worst.Target = target
		targets = append(targets, worst)
	}
	slices.SortFunc(targets, func(x, y Gap) int {
		return cmp.Or(cmp.Compare(y.Blamed, x.Blamed), cmp.Compare(x.Target, y.Target))
	})
	return targets, longest(every, hurt)
}

// faults are the times in which servers were hurt, and the instants in which a
// partition got an owner that was bound to fail, in order. The lock is held.
func (g *ledger) faults(partition int, hurt []span, doomed func(owner string) bool) []span {
	all := slices.Clone(hurt)
	for _, r := range g.reigns[partition] {
		if doomed(r.owner) {
			all = append(all, span{r.begin, r.begin})
		}
	}
	slices.SortStableFunc(all, func(a, b span) int { return a.from.Compare(b.from) })
	return all
}

// longest is the gap with the longest part to blame.
func longest(changes []change, hurt []span) (worst Gap) {
	var most time.Duration
	slices.SortStableFunc(changes, func(a, b change) int { return a.at.Compare(b.at) })
	waiting := 0
	var since time.Time // when the waiting began, or the last service
	for _, c := range changes {
		if c.served || c.waits < 0 {
			if waiting > 0 {
				g := between(since, c.at, hurt)
				if most = max(most, g.Length); g.Blamed > worst.Blamed || worst.From.IsZero() {
					worst = g
				}
			}
			since = c.at
		}
		if c.waits > 0 && waiting == 0 {
			since = c.at
		}
		waiting += c.waits
	}
	worst.Longest = most
	return worst
}

// between blames a gap on our processes from the end of the last span in it.
func between(from, to time.Time, hurt []span) Gap {
	g := Gap{From: from, Length: to.Sub(from)}
	start := from
	for _, o := range hurt {
		if o.from.Before(to) && (o.to.IsZero() || o.to.After(start)) {
			start = o.to
			if o.to.IsZero() || o.to.After(to) {
				start = to
			}
		}
	}
	g.Blamed = max(0, to.Sub(start))
	return g
}
