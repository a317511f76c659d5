package observer

import (
	"container/heap"
	"time"
)

// returns holds the operations of a partition that come back after a delay,
// earliest first.
type returns struct{ h dueHeap }

// add notes that o comes back at o.due.
func (r *returns) add(o *operation) { heap.Push(&r.h, dueEntry{o, o.due}) }

// pop returns the next operation that was due at the instant, or nil. One that
// has ended meanwhile still comes out.
func (r *returns) pop(at time.Time) *operation {
	if len(r.h) == 0 || r.h[0].at.After(at) {
		return nil
	}
	return heap.Pop(&r.h).(dueEntry).o
}

type dueEntry struct {
	o  *operation
	at time.Time
}

type dueHeap []dueEntry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) { *h = append(*h, x.(dueEntry)) }

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = dueEntry{}
	*h = old[:len(old)-1]
	return e
}
