package audit

import (
	"container/heap"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// alarm is an instant at which something has to have happened.
type alarm struct {
	at      time.Time
	kind    alarmKind
	o       *operation
	t       *target
	attempt int
}

type alarmKind int

const (
	alarmLease alarmKind = iota
	alarmStop
	alarmContest
	alarmExpiry
	alarmBackoff
	alarmWindow
)

// live reports whether the alarm still means anything.
func (a *alarm) live() bool {
	runs := a.o != nil && a.o.status == op.Executing && a.o.attempt == a.attempt
	switch a.kind {
	case alarmLease:
		return runs && a.o.lease.Equal(a.at)
	case alarmStop:
		return runs && a.o.stop != nil && a.o.stop.at.Equal(a.at)
	case alarmContest:
		return runs
	case alarmExpiry:
		return !a.o.status.Terminal()
	case alarmBackoff:
		return a.o.waiting && a.o.due.Equal(a.at)
	case alarmWindow:
		return len(a.t.staged) > 0 && a.t.closes.Equal(a.at)
	}
	return false
}

type alarms []alarm

func (h alarms) Len() int           { return len(h) }
func (h alarms) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarms) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *alarms) Push(x any) { *h = append(*h, x.(alarm)) }

// Pop implements heap.Interface.
func (h *alarms) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = alarm{}
	*h = old[:len(old)-1]
	return x
}

// set adds an alarm. Alarms are not taken out when they lose their meaning, so
// the heap is swept before it outgrows the open operations.
func (p *partition) set(h *alarms, x alarm) {
	if len(*h) > 4*len(p.open)+1024 {
		*h = slices.DeleteFunc(*h, func(x alarm) bool { return !x.live() })
		heap.Init(h)
	}
	heap.Push(h, x)
}

// due reports whether an alarm may be due at the instant.
func (h alarms) due(at time.Time) bool { return len(h) > 0 && !h[0].at.After(at) }

// next takes the next live alarm that is due at the instant.
func (h *alarms) next(at time.Time) (alarm, bool) {
	for h.due(at) {
		if x := heap.Pop(h).(alarm); x.live() {
			return x, true
		}
	}
	return alarm{}, false
}
