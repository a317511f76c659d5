package submitter

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// What is too full for more (ADR 0013). A partition is held back early, because
// operations that passed the edge are on their way to it, and one that is full
// refuses for good where the edge only puts off. A target is held back late:
// above its limit the lowest rank is shed, which is a decision and not an accident.
const (
	newsAge       = time.Second
	fullPartition = 50 // per cent of the operations that may be open in a partition
	fullTarget    = 90 // per cent of the operations that may be staged on a target
	// fullPause is the advice where nobody has given any: about as long as a
	// second's worth of intake takes to be trimmed.
	fullPause = time.Second
)

// news is what the owners of the partitions say about their load, and what this
// submitter let through since: news are some time apart, and in between a stream
// of submissions would fill the same room many times over. The zero value knows
// nothing, and that is no reason to refuse.
type news struct {
	mu   sync.Mutex
	last map[int]heard // by partition
}

// heard are news of one partition. Open and Targets grow by what is let through.
type heard struct {
	bus.Load
	at time.Time
}

func (n *news) hear(l bus.Load) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil {
		n.last = map[int]heard{}
	}
	n.last[l.Partition] = heard{l, time.Now()}
}

// fresh reports whether the news still say something.
func (l *heard) fresh() bool { return time.Since(l.at) <= newsAge }

// crowded reports whether the partition as a whole has no room.
func (l *heard) crowded() bool { return l.MaxOpen > 0 && 100*l.Open >= fullPartition*l.MaxOpen }

// tight reports whether there may be something without room.
func (n *news) tight() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.last {
		if l.fresh() && (len(l.Targets) > 0 || l.crowded()) {
			return true
		}
	}
	return false
}

// full returns why there is no room on any of the targets, which are all of one
// partition; nil: there is.
func (n *news) full(partition int, targets ...string) *op.Error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.want(partition, targets)
}

// admit is full, and where there is room takes the place of as many operations as
// there are targets: one that is named twice has two.
func (n *news) admit(partition int, targets ...string) *op.Error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.want(partition, targets); e != nil {
		return e
	}
	l, ok := n.last[partition]
	if !ok || !l.fresh() {
		return nil
	}
	l.Open += len(targets)
	for _, t := range targets {
		if _, crowded := l.Targets[t]; crowded { // the others are less than half full
			l.Targets[t]++
		}
	}
	n.last[partition] = l
	return nil
}

// want says what there is a want of. The lock is held.
func (n *news) want(partition int, targets []string) *op.Error {
	l, ok := n.last[partition]
	if !ok || !l.fresh() {
		return nil
	}
	if l.crowded() {
		return overloaded(l.RetryAfterMS, "partition %d has %d open operations of %d that it may have", partition, l.Open, l.MaxOpen)
	}
	if l.MaxStaged == 0 {
		return nil
	}
	at := slices.IndexFunc(targets, func(t string) bool { return 100*l.Targets[t] >= fullTarget*l.MaxStaged })
	if at < 0 {
		return nil
	}
	t := targets[at]
	return overloaded(l.RetryAfterMS, "%s has %d staged operations of %d that it may have", t, l.Targets[t], l.MaxStaged)
}

// overloaded is the refusal for want of room: nothing was stored, and nothing is
// wrong with the request.
func overloaded(retryAfterMS int64, format string, args ...any) *op.Error {
	e := op.Errorf(op.CodeOverloaded, "", "%s; nothing was stored", fmt.Sprintf(format, args...))
	e.RetryAfterMS = cmp.Or(max(retryAfterMS, 0), fullPause.Milliseconds())
	return e
}

// hold is how long a refusal for want of room asks to wait, within reason.
func hold(e *op.Error) time.Duration {
	return min(max(time.Duration(e.RetryAfterMS)*time.Millisecond, firstPause), lastHold)
}

// lastHold bounds one wait: the news are younger than that, so it is looked at
// again.
const lastHold = 2 * time.Second
