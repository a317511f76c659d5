package client

import (
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// hub tells those who wait for operations that one has ended. It listens once a
// target, however many wait. It is a hint and nothing more: what it misses is
// found on record a little later.
type hub struct {
	nc *nats.Conn

	mu      sync.Mutex
	targets map[string]*listener
}

type listener struct {
	sub     *nats.Subscription // nil where the server could not be asked
	waiting map[string]map[chan op.Event]bool
}

// join returns a channel that gets the terminal event of an operation, if it is
// heard, and the function that ends the listening.
func (h *hub) join(target, id string) (news <-chan op.Event, leave func()) {
	c := make(chan op.Event, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.targets == nil {
		h.targets = map[string]*listener{}
	}
	l := h.targets[target]
	if l == nil {
		l = &listener{waiting: map[string]map[chan op.Event]bool{}}
		h.targets[target] = l
		// Without it, an answer only comes a little later.
		l.sub, _ = h.nc.Subscribe(bus.EventFilter("operation.*", target), h.hear)
	}
	if l.waiting[id] == nil {
		l.waiting[id] = map[chan op.Event]bool{}
	}
	l.waiting[id][c] = true
	return c, func() { h.leave(target, id, c) }
}

func (h *hub) leave(target, id string, c chan op.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.targets[target]
	if delete(l.waiting[id], c); len(l.waiting[id]) == 0 {
		delete(l.waiting, id)
	}
	if len(l.waiting) > 0 {
		return
	}
	delete(h.targets, target)
	if l.sub != nil {
		_ = l.sub.Unsubscribe() // only fails when it is gone already
	}
}

// hear passes a terminal event on to those who wait for it.
func (h *hub) hear(m *nats.Msg) {
	name, target, err := bus.ParseEvent(m.Subject)
	if err != nil || name != op.EventCompleted && name != op.EventRejected && name != op.EventCancelled {
		return
	}
	var e op.Event
	if !decodeEvent(m.Data, &e) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.targets[target]
	if l == nil {
		return
	}
	for c := range l.waiting[e.OpID] {
		select {
		case c <- e:
		default: // told already
		}
	}
}
