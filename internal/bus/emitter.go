package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// emitterWindow is how many messages of one emitter may wait for their
	// acknowledgement; more are queued here.
	emitterWindow = 4096
	// emitterAckWait is when an unanswered message is sent again.
	emitterAckWait = time.Second
	// emitterKeys is how many keys an emitter remembers the sequence of, or a flush
	// more, and as many from before that were not used since. A forgotten one costs a
	// read. Each operation has one, and few need it after the end.
	emitterKeys = 1 << 12
)

// Emitter publishes the outputs of committed steps, pipelined: [Emitter.Add]
// does not wait, [Emitter.Flush] waits for everything. It is not safe for
// concurrent use; a partition has one.
//
// Outputs may be sent more than once, here or by the next owner. Events carry
// an id for that, work is a hint. Views must not go back: a value added after
// [Emitter.At] replaces only a value of an earlier journal sequence, whoever
// wrote that. So a deposed owner that wakes up cannot bring an old head back.
// Of several values for one key that wait, only the newest is written.
type Emitter struct {
	b      *Bus
	prefix string // of the reply subjects; the slot's number follows

	mu       sync.Mutex
	sub      *nats.Subscription
	base     uint64  // number of slots[0]
	slots    []*slot // since the last Flush that found nothing waiting
	queue    []*slot // not sent yet, in order
	inFlight int     // sent, or about to be sent again
	open     int     // not done
	order    uint64  // of the messages to come
	keys     map[string]*viewKey
	older    map[string]*viewKey // of those not used since keys was empty
	bad      []error             // refused for good since the last Flush
	idle     chan struct{}       // told when open becomes 0
	closed   bool
}

// slot is one message on its way.
type slot struct {
	n       uint64
	msg     *nats.Msg
	order   uint64
	key     *viewKey // nil: not guarded
	sent    time.Time
	tries   int
	reading bool // the request under way asks what the key holds now
	done    bool
}

// viewKey is what the emitter knows about one key of a view.
type viewKey struct {
	seq uint64 // of its last value as far as we know; 0: none
	// order of that value, whoever wrote it. Knowing seq alone is not enough:
	// what waits behind a value that came too late may be too late as well.
	order uint64
	busy  *slot // the one value on its way
	next  *slot // the value that follows it
}

// NewEmitter returns an emitter. Close it when the partition is given up.
func (b *Bus) NewEmitter() *Emitter {
	return &Emitter{b: b, prefix: b.nc.NewInbox() + ".", keys: map[string]*viewKey{}, idle: make(chan struct{}, 1)}
}

// At sets the journal sequence of the step whose outputs are added from now on.
// Views of it replace only older ones. 0 turns that off.
func (e *Emitter) At(journalSeq uint64) {
	e.mu.Lock()
	e.order = journalSeq
	e.mu.Unlock()
}

// Add queues a message. The message is the emitter's from now on.
func (e *Emitter) Add(m *nats.Msg) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	if e.sub == nil {
		var err error
		if e.sub, err = e.b.nc.Subscribe(e.prefix+"*", e.answer); err != nil {
			e.bad = append(e.bad, fmt.Errorf("bus: emit: %w", err))
			return
		}
		_ = e.sub.SetPendingLimits(-1, -1) // bounded by the window
	}
	s := &slot{n: e.base + uint64(len(e.slots)), msg: m, order: e.order}
	m.Reply = e.prefix + strconv.FormatUint(s.n, 36)
	e.slots = append(e.slots, s)
	e.open++
	if e.order == 0 || !strings.HasPrefix(m.Subject, "$KV.") {
		e.enqueue(s)
		return
	}
	e.guard(s)
}

// guard makes s wait for the value of the same key that is on its way.
func (e *Emitter) guard(s *slot) {
	k := e.keys[s.msg.Subject]
	if k == nil {
		if k = e.older[s.msg.Subject]; k == nil {
			k = &viewKey{}
		}
		e.keys[s.msg.Subject] = k
	}
	s.key = k
	switch {
	case k.order >= s.order:
		e.finish(s)
	case k.busy == nil:
		k.busy = s
		e.enqueue(s)
	case k.next == nil:
		k.next = s
	default: // superseded before it was ever sent
		old := k.next
		k.next = s
		e.finish(old)
	}
}

// enqueue sends s, or keeps it until the window has room.
func (e *Emitter) enqueue(s *slot) {
	if e.inFlight >= emitterWindow || len(e.queue) > 0 {
		e.queue = append(e.queue, s)
		return
	}
	e.inFlight++
	e.send(s)
}

// send publishes s. An error of the connection is met by sending again later.
func (e *Emitter) send(s *slot) {
	s.reading, s.sent = false, time.Now()
	if s.key != nil {
		if s.msg.Header == nil {
			s.msg.Header = nats.Header{}
		}
		s.msg.Header[HeaderOrder] = []string{strconv.FormatUint(s.order, 10)}
		s.msg.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(s.key.seq, 10)}
	}
	if pointsOf(emitRoutes, s.msg.Subject).Before.Err() != nil {
		return // as if the connection had lost it
	}
	if err := e.b.nc.PublishMsg(s.msg); hopeless(err) {
		e.refuse(s, err)
	}
}

// ask reads what the key of s holds now.
func (e *Emitter) ask(s *slot) {
	s.reading, s.sent = true, time.Now()
	bucket, _, _ := strings.Cut(strings.TrimPrefix(s.msg.Subject, "$KV."), ".")
	subject := apiPrefix + "STREAM.MSG.GET.KV_" + bucket
	_ = e.b.nc.PublishRequest(subject, s.msg.Reply, []byte(lastBySubject(s.msg.Subject)))
}

// Flush returns when every message added so far is stored. What fails is sent
// again until ctx ends, whose error it then returns; the messages stay, and a
// later Flush goes on. Messages that the server refuses for good are dropped
// and reported.
func (e *Emitter) Flush(ctx context.Context) error {
	tick := time.NewTicker(emitterAckWait / 2)
	defer tick.Stop()
	for {
		e.mu.Lock()
		if e.open == 0 {
			err := errors.Join(e.bad...)
			e.bad = nil
			e.forget()
			e.mu.Unlock()
			return err
		}
		e.mu.Unlock()
		select {
		case <-ctx.Done():
			return fmt.Errorf("bus: emit: %w", ctx.Err())
		case <-e.idle:
		case now := <-tick.C:
			if e.b.nc.IsClosed() {
				return fmt.Errorf("bus: emit: %w", nats.ErrConnectionClosed)
			}
			e.resend(now)
		}
	}
}

// forget drops the slots, all done, and the keys that were not used for long when they
// have become many.
func (e *Emitter) forget() {
	e.base += uint64(len(e.slots))
	clear(e.slots)
	e.slots = e.slots[:0]
	if len(e.keys) > emitterKeys {
		e.older, e.keys = e.keys, map[string]*viewKey{}
	}
}

// resend repeats what has waited too long for an answer.
func (e *Emitter) resend(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.slots {
		if s.done || s.sent.IsZero() || now.Sub(s.sent) < emitterAckWait {
			continue
		}
		e.again(s)
	}
}

// again repeats the request that s waits for. A guarded one may be stored by
// now, and something newer after it: the expected sequence then refuses it.
func (e *Emitter) again(s *slot) {
	if s.reading {
		e.ask(s)
	} else {
		e.send(s)
	}
}

// Close gives up what is not yet stored and releases the emitter.
func (e *Emitter) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	if e.sub != nil {
		_ = e.sub.Unsubscribe() // fails only on a closed connection
	}
}
