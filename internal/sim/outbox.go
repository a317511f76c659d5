package sim

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// outbox publishes outputs by the protocol of [bus.Emitter], one after the other
// in an order of its own: on a real connection they are all under way at once.
// Values of views replace only values of earlier journal sequences.
type outbox struct {
	c      *client
	order  uint64
	queue  []*parcel
	keys   map[string]*viewKey
	closed bool
}

type parcel struct {
	msg   *nats.Msg
	order uint64
}

// viewKey is what the outbox knows about one key of a view.
type viewKey struct{ seq, order uint64 }

// At sets the journal sequence of what is added from now on.
func (o *outbox) At(seq uint64) { o.order = seq }

// Add queues a message.
func (o *outbox) Add(m *nats.Msg) {
	if !o.closed {
		o.queue = append(o.queue, &parcel{m, o.order})
	}
}

// Flush stores everything that was added.
func (o *outbox) Flush(context.Context) error {
	k := o.c.k
	for len(o.queue) > 0 && !o.closed {
		i := k.rng.IntN(min(len(o.queue), 8))
		for j := range i { // values of one key keep their order
			if o.queue[j].msg.Subject == o.queue[i].msg.Subject {
				i = j
				break
			}
		}
		p := o.queue[i]
		o.store(p)
		if o.closed {
			return errors.New("sim: the outbox is closed")
		}
		for j := range o.queue {
			if o.queue[j] == p {
				o.queue = append(o.queue[:j], o.queue[j+1:]...)
				break
			}
		}
	}
	return nil
}

// store publishes one message until it is stored or has become needless.
func (o *outbox) store(p *parcel) {
	m := &nats.Msg{Subject: p.msg.Subject, Data: p.msg.Data, Header: nats.Header{}}
	maps.Copy(m.Header, p.msg.Header)
	var key *viewKey
	if p.order > 0 && strings.HasPrefix(m.Subject, "$KV.") {
		if key = o.keys[m.Subject]; key == nil {
			key = &viewKey{}
			o.keys[m.Subject] = key
		}
		if key.order >= p.order {
			return
		}
	}
	for n := 0; !o.closed; n++ {
		if key != nil {
			m.Header[bus.HeaderOrder] = []string{strconv.FormatUint(p.order, 10)}
			m.Header[headerExpected] = []string{strconv.FormatUint(key.seq, 10)}
		}
		ack, err := o.c.publish(m)
		switch {
		case err == nil:
			if key != nil {
				key.seq, key.order = ack.Seq, p.order
			}
			return
		case errors.Is(err, refusal(codeWrongSeq)) && key != nil:
			if o.ask(m.Subject, key); key.order >= p.order {
				return
			}
		default:
			o.c.pause(n)
		}
	}
}

// ask reads what a key holds now.
func (o *outbox) ask(subject string, key *viewKey) {
	s, _ := o.c.route(subject)
	m := o.c.read(s, "read", subject, func(upTo uint64) *message { return s.newest(subject, upTo) })
	key.seq, key.order = 0, 0
	if m != nil {
		key.seq = m.seq
		key.order, _ = strconv.ParseUint(first(m.header, bus.HeaderOrder), 10, 64)
	}
}

// Close gives up what is not yet stored.
func (o *outbox) Close() { o.closed = true }
