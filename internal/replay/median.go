package replay

import (
	"container/heap"
	"time"
)

// median is the median of what was added: the greater of the two middle ones when
// their number is even. Adding costs the logarithm of the number.
type median struct {
	low  durations // negated, so that its first is its greatest
	high durations // never fewer than low, and at most one more
}

func (m *median) add(d time.Duration) {
	if len(m.high) == 0 || d >= m.high[0] {
		heap.Push(&m.high, d)
	} else {
		heap.Push(&m.low, -d)
	}
	if len(m.low) > len(m.high) {
		heap.Push(&m.high, -heap.Pop(&m.low).(time.Duration))
	} else if len(m.high) > len(m.low)+1 {
		heap.Push(&m.low, -heap.Pop(&m.high).(time.Duration))
	}
}

// value returns the median; something must have been added.
func (m *median) value() time.Duration { return m.high[0] }

// durations is a heap, the least first.
type durations []time.Duration

func (h durations) Len() int           { return len(h) }
func (h durations) Less(i, j int) bool { return h[i] < h[j] }
func (h durations) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *durations) Push(x any) { *h = append(*h, x.(time.Duration)) }

// Pop implements heap.Interface.
func (h *durations) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	*h = (*h)[:last]
	return d
}
