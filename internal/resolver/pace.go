package resolver

import (
	"math"
	"runtime/metrics"
	"sync"
	"time"
)

// pace has crowded targets make room for the others while the process is short of
// processor time (ADR 0019): what a handler reports of one of them is handed to the
// partition a little later. It is shared by the partitions of a process, and safe for
// concurrent use. Nothing depends on it: a report that is late is what a slow network
// makes, too. Nobody waits for one that is nil.
type pace struct {
	now  func() time.Time
	lag  func() (mean time.Duration, ok bool) // since the last call
	told func(pause time.Duration)

	mu     sync.Mutex
	others time.Time // when a report of a target that is not crowded came last
	who    string    // of which
	looked time.Time
	pause  time.Duration
}

const (
	// paceGoal is how long a goroutine that could run may wait for a processor, on
	// average. Beyond it the slowest in a hundred of the others take several times
	// what they take alone.
	paceGoal = 20 * time.Microsecond
	// paceEvery is how often that is looked at: some hundreds of goroutines later.
	paceEvery = 50 * time.Millisecond
	// A target waits for so long at first and at most. It goes on all the same: most
	// executions take a millisecond or less, so some 150 a second are left of it.
	pauseLeast, pauseMost = 200 * time.Microsecond, 5 * time.Millisecond
	// company is for how long after its last report another target is there.
	company = time.Second
)

func newPace(told func(time.Duration)) *pace {
	return &pace{now: time.Now, lag: newLagMeter(), told: told}
}

// hold is how long a report of a target has to wait, which is crowded or is not.
func (c *pace) hold(target string, crowded bool) time.Duration {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	since := now.Sub(c.looked)
	if !crowded {
		c.others, c.who = now, target
		if since > company { // there is no crowd any more
			c.set(0)
		}
		return 0
	}
	switch {
	case now.Sub(c.others) > company, c.who == target: // it is alone, or was not crowded itself just now
		c.set(0)
	case since >= paceEvery:
		c.looked = now
		switch mean, ok := c.lag(); {
		case since > company: // that is about times long past
			c.set(0)
		case ok:
			c.adjust(mean)
		}
	}
	return c.pause
}

func (c *pace) adjust(mean time.Duration) {
	switch next := c.pause * 4 / 5; {
	case mean > paceGoal:
		c.set(min(max(c.pause*5/4, pauseLeast), pauseMost))
	case next < pauseLeast/2:
		c.set(0)
	default:
		c.set(next)
	}
}

func (c *pace) set(pause time.Duration) {
	if pause != c.pause {
		c.pause = pause
		c.told(pause)
	}
}

// newLagMeter returns a function that says how long goroutines that could run had to
// wait for a processor, on average since its last call. It is for one goroutine at a
// time.
func newLagMeter() func() (time.Duration, bool) {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	var last []uint64
	return func() (mean time.Duration, ok bool) {
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindFloat64Histogram {
			return 0, false // a runtime that does not count it
		}
		h := sample[0].Value.Float64Histogram()
		mean, ok = meanSince(last, h)
		last = append(last[:0], h.Counts...)
		return mean, ok
	}
}

// meanSince is the mean of what a histogram of seconds has counted since the counts
// last; not ok if that is nothing, or there were none.
func meanSince(last []uint64, h *metrics.Float64Histogram) (time.Duration, bool) {
	if len(last) != len(h.Counts) {
		return 0, false
	}
	var n uint64
	sum := 0.0
	for i, counted := range h.Counts {
		low, high := max(h.Buckets[i], 0), h.Buckets[i+1]
		if math.IsInf(high, 1) {
			high = low
		}
		n += counted - last[i]
		sum += float64(counted-last[i]) * (low + high) / 2
	}
	if n == 0 {
		return 0, false
	}
	return time.Duration(sum / float64(n) * float64(time.Second)), true
}
