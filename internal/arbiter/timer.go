package arbiter

import (
	"cmp"
	"container/heap"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/retry"
)

// timerKind orders timers that are due at the same instant.
type timerKind int

const (
	timerNone   timerKind = iota
	timerExpiry           // an operation's deadline or age
	timerLease            // an attempt's lease
	timerGrace            // the end of an attempt's grace, when something waits for it
	timerRetry            // the end of a backoff
	timerWindow           // the end of a staging window
)

// timer is one entry of the heap, embedded where it belongs so that it can be
// taken out again: a cancelled timer costs nothing.
type timer struct {
	at     time.Time
	kind   timerKind
	key    string // operation or target: breaks ties the same way everywhere
	entry  *entry
	target *target
	index  int
}

type timers []*timer

func (h timers) Len() int { return len(h) }

func (h timers) Less(i, j int) bool {
	a, b := h[i], h[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	if a.kind != b.kind {
		return a.kind < b.kind
	}
	return cmp.Less(a.key, b.key)
}

func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *timers) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *timers) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.kind = timerNone
	return t
}

func (h *timers) pop() { heap.Pop(h) }

// arm sets slot to t, replacing what it was set to.
func (m *Machine) arm(slot *timer, t timer) {
	m.disarm(slot)
	*slot = t
	heap.Push(&m.timers, slot)
}

func (m *Machine) disarm(slot *timer) {
	if slot.kind != timerNone {
		heap.Remove(&m.timers, slot.index)
	}
}

// delay is the backoff of contract §5. The draw is a hash of the step's random
// id, so it is uniform and yet part of the record.
func (m *Machine) delay(e *entry, n int) time.Duration {
	h := fnv.New64a()
	var b strings.Builder
	b.WriteString(m.seed)
	b.WriteByte('/')
	b.WriteString(e.op.ID)
	b.WriteByte('/')
	b.WriteString(strconv.Itoa(n))
	_, _ = h.Write([]byte(b.String()))
	return retry.Delay(n, float64(mix(h.Sum64())>>11)/(1<<53), m.policy.RetryBase, m.policy.RetryMax)
}

// mix spreads the bits of a hash whose high bits are not uniform for short
// inputs (the finaliser of splitmix64, Steele et al. 2014).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
