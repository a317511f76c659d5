package bus

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// answer handles the server's answer to one message of the emitter. It runs on
// the subscription's goroutine.
func (e *Emitter) answer(m *nats.Msg) {
	n, err := strconv.ParseUint(m.Subject[len(e.prefix):], 36, 64)
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || n < e.base || n-e.base >= uint64(len(e.slots)) {
		return // the second answer to something done long ago
	}
	s := e.slots[n-e.base]
	switch {
	case s.done:
	case len(m.Data) == 0: // no responders: an election
		e.later(s)
	case bytes.HasPrefix(m.Data, []byte(`{"type":`)):
		if s.reading {
			e.answered(s, m.Data)
		}
	case !s.reading:
		e.acked(s, m.Data)
	}
}

// acked handles the acknowledgement of a publish.
func (e *Emitter) acked(s *slot, data []byte) {
	if !bytes.Contains(data, []byte(`"error"`)) {
		if pointsOf(emitRoutes, s.msg.Subject).After.Err() != nil {
			return // as if the answer had been lost
		}
		if s.key != nil {
			seq, ok := ackSeq(data)
			if !ok {
				e.later(s)
				return
			}
			s.key.seq, s.key.order = seq, s.order
		}
		e.complete(s)
		return
	}
	_, err := parseAck(data)
	switch c := code(err); {
	case c == codeWrongSequence && s.key != nil:
		e.ask(s)
	case hopeless(err):
		e.refuse(s, err)
	default:
		e.later(s)
	}
}

// ackSeq is the sequence in a positive acknowledgement. One of these comes back
// for every message, so it is not worth a decoder.
func ackSeq(data []byte) (seq uint64, ok bool) {
	_, rest, _ := bytes.Cut(data, []byte(`"seq":`))
	for _, c := range bytes.TrimLeft(rest, " ") {
		if c < '0' || c > '9' {
			break
		}
		seq = seq*10 + uint64(c-'0')
	}
	return seq, seq > 0 // streams count from 1
}

// answered handles what the key of s holds: something as new, then we are done,
// or something to replace.
func (e *Emitter) answered(s *slot, data []byte) {
	m, err := parseStored(data)
	if err != nil && code(err) != codeNotFound {
		e.later(s)
		return
	}
	if err == nil {
		s.key.seq = m.Seq
		s.key.order, _ = strconv.ParseUint(m.header(HeaderOrder), 10, 64)
		if s.key.order >= s.order {
			e.complete(s)
			return
		}
	} else {
		s.key.seq, s.key.order = 0, 0
	}
	e.send(s)
}

// later repeats the request of s after a while that grows.
func (e *Emitter) later(s *slot) {
	s.tries++
	s.sent = time.Now()
	tries := s.tries
	time.AfterFunc(min(2*time.Millisecond<<min(tries, 10), 250*time.Millisecond), func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.closed && !s.done && s.tries == tries {
			e.again(s)
		}
	})
}

// refuse drops s for good.
func (e *Emitter) refuse(s *slot, err error) {
	if !errors.Is(err, nats.ErrConnectionClosed) { // Flush tells that one
		e.bad = append(e.bad, fmt.Errorf("bus: emit %s: %w", s.msg.Subject, err))
		e.complete(s)
	}
}

// complete ends a slot that was in flight, and starts what waited for it.
func (e *Emitter) complete(s *slot) {
	if s.done {
		return
	}
	e.inFlight--
	e.finish(s)
	if k := s.key; k != nil {
		k.busy, k.next = k.next, nil
		if k.busy != nil && k.busy.order <= k.order {
			e.finish(k.busy)
			k.busy = nil
		}
		if k.busy != nil {
			e.queue = append(e.queue, k.busy)
		}
	}
	for len(e.queue) > 0 && e.inFlight < emitterWindow {
		next := e.queue[0]
		e.queue[0] = nil
		if e.queue = e.queue[1:]; len(e.queue) == 0 {
			e.queue = nil
		}
		e.inFlight++
		e.send(next)
	}
}

// finish marks a slot done.
func (e *Emitter) finish(s *slot) {
	s.done, s.msg = true, &nats.Msg{Subject: s.msg.Subject}
	if e.open--; e.open == 0 {
		select {
		case e.idle <- struct{}{}:
		default:
		}
	}
}
