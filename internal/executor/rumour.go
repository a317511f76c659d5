package executor

import (
	"encoding/json"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// takenAway are the events that tell an executor that an attempt is no longer
// its own.
var takenAway = []op.EventName{op.EventCancelled, op.EventPreempted, op.EventRetry}

// rumours hears in public events that attempts were taken away. It is a hint, so
// that a handler is stopped at once and not at its next heartbeat: events may be
// lost, and whatever an attempt does after it was taken away is refused.
//
// Only attempts that take some time listen, each to the events of its target.
type rumours struct {
	nc *nats.Conn
	c  chan *nats.Msg // shared by all subscriptions

	mu sync.Mutex
	by map[*nats.Subscription]*hold
}

// rumourBuffer is how many events may wait; more are lost.
const rumourBuffer = 1024

func newRumours(nc *nats.Conn) *rumours {
	return &rumours{nc: nc, c: make(chan *nats.Msg, rumourBuffer), by: map[*nats.Subscription]*hold{}}
}

// run passes the events on until done is closed.
func (r *rumours) run(done <-chan struct{}) {
	for {
		select {
		case m := <-r.c:
			r.mu.Lock()
			h := r.by[m.Sub]
			r.mu.Unlock()
			if h != nil {
				h.rumour(m.Data)
			}
		case <-done:
			return
		}
	}
}

// listen hears about one attempt until stop is called. A subscription that fails
// is not worth a word: the connection is lost, and more than hints with it.
func (r *rumours) listen(h *hold) (stop func()) {
	var subs []*nats.Subscription
	for _, name := range takenAway {
		r.mu.Lock() // an event may come before the subscription is known
		sub, err := r.nc.ChanSubscribe(bus.EventSubject(name, h.w.Operation.Target), r.c)
		if err == nil {
			r.by[sub] = h
			subs = append(subs, sub)
		}
		r.mu.Unlock()
	}
	return func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe() // fails when the connection is closed, which is as good
			r.mu.Lock()
			delete(r.by, sub)
			r.mu.Unlock()
		}
	}
}

// rumour stops the handler when an event says that its attempt was taken away. An
// event that does not name the attempt may be about an earlier one; then the owner
// is asked.
func (h *hold) rumour(data []byte) {
	var e struct {
		Name    op.EventName `json:"event"`
		OpID    string       `json:"op_id"`
		Attempt int          `json:"attempt"`
	}
	if json.Unmarshal(data, &e) != nil || e.OpID != h.w.Operation.ID {
		return
	}
	switch {
	case e.Attempt == h.w.Attempt || e.Name == op.EventCancelled:
		h.cancel(ErrRevoked)
	case e.Attempt == 0:
		h.tell(&h.doubt)
	}
}
