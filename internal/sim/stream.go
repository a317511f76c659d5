package sim

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// Codes of the server that the model gives; see internal/bus.
const (
	codeOK       = 0
	codeWrongSeq = 10071
	codeBusy     = 10164
	codeNotFound = 10037
	codeNobody   = 503 // no leader: nobody listens
)

// Headers that the model knows.
const (
	headerExpected = nats.ExpectedLastSubjSeqHdr
	headerMsgID    = nats.MsgIdHdr
	headerKV       = "KV-Operation"
)

// message is one message of a stream.
type message struct {
	seq     uint64
	subject string
	data    []byte
	header  nats.Header
	at      time.Duration
}

// stream is a model of one stream as far as this project uses it: sequences that
// only grow, the expected last sequence of a subject, message ids within a
// window, a limit of messages a subject, and removal of a subject's messages up to
// a sequence.
type stream struct {
	name   string
	last   uint64
	msgs   []*message            // in order; none of a bucket, whose readers name their keys
	by     map[string][]*message // by subject, in order; of a bucket with what was replaced
	single bool                  // a bucket: only the last message of a subject can be read, unless from a stale server
	window time.Duration
	ids    map[string]known
	stored func(m *message) // told of every message that is stored

	replicated bool          // on three servers
	downUntil  time.Duration // without a leader until then
	fresh      bool          // only the present leader answers
	staleUntil time.Duration // a former leader may answer until then,
	staleAt    uint64        // which knows messages up to here
}

// known is a message id and what it was stored as.
type known struct {
	seq uint64
	at  time.Duration
}

func newStream(name string, window time.Duration, single bool) *stream {
	return &stream{name: name, window: window, single: single, by: map[string][]*message{}, ids: map[string]known{}}
}

// publish stores a message, or says why not. The subject is the stored one.
func (s *stream) publish(now time.Duration, subject string, data []byte, header nats.Header) (ack bus.Ack, code int) {
	id := first(header, headerMsgID)
	k, again := s.ids[id]
	again = id != "" && again && now-k.at < s.window
	// With replicas a repeat is answered before the expected sequence is looked
	// at, on one server it is the other way round.
	if text := first(header, headerExpected); text != "" && !(again && s.replicated) {
		expected, err := strconv.ParseUint(text, 10, 64)
		if err != nil || expected != s.lastOf(subject) {
			return bus.Ack{}, codeWrongSeq
		}
	}
	if again {
		return bus.Ack{Stream: s.name, Seq: k.seq, Duplicate: true}, codeOK
	}
	s.last++
	m := &message{seq: s.last, subject: subject, data: data, header: header, at: now}
	if id != "" {
		s.ids[id] = known{m.seq, now}
	}
	if !s.single {
		s.msgs = append(s.msgs, m)
	}
	s.by[subject] = append(s.by[subject], m)
	if s.stored != nil {
		s.stored(m)
	}
	return bus.Ack{Stream: s.name, Seq: m.seq}, codeOK
}

func first(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (s *stream) lastOf(subject string) uint64 {
	if all := s.by[subject]; len(all) > 0 {
		return all[len(all)-1].seq
	}
	return 0
}

// newest is the last message whose subject is covered by a filter, among those
// up to a sequence.
func (s *stream) newest(filter string, upTo uint64) *message {
	if !strings.HasSuffix(filter, ">") {
		return latest(s.by[filter], upTo)
	}
	for _, m := range slices.Backward(s.msgs) {
		if m.seq <= upTo && strings.HasPrefix(m.subject, filter[:len(filter)-1]) {
			return m
		}
	}
	return nil
}

func latest(all []*message, upTo uint64) *message {
	for _, m := range slices.Backward(all) {
		if m.seq <= upTo {
			return m
		}
	}
	return nil
}

// nextOf is the first message of a subject at or after from, and up to a
// sequence.
func (s *stream) nextOf(subject string, from, upTo uint64) *message {
	for _, m := range s.by[subject] {
		if m.seq >= from {
			if m.seq <= upTo {
				return m
			}
			return nil
		}
	}
	return nil
}

// behind returns the messages with sequences above after whose subject has a
// prefix, at most n.
func (s *stream) behind(prefix string, after uint64, n int) []*message {
	at, _ := slices.BinarySearchFunc(s.msgs, after+1, func(m *message, seq uint64) int { return int(m.seq) - int(seq) })
	var found []*message
	for _, m := range s.msgs[at:] {
		if len(found) == n {
			break
		}
		if strings.HasPrefix(m.subject, prefix) {
			found = append(found, m)
		}
	}
	return found
}

// purge removes the messages of subjects with a prefix below a sequence.
func (s *stream) purge(prefix string, below uint64) {
	for subject := range s.by {
		if strings.HasPrefix(subject, prefix) {
			s.remove(subject, below)
		}
	}
}

// remove removes the messages of a subject below a sequence.
func (s *stream) remove(subject string, below uint64) {
	all := s.by[subject]
	if len(all) == 0 || all[0].seq >= below {
		return
	}
	gone := func(m *message) bool { return m.subject == subject && m.seq < below }
	s.msgs = slices.DeleteFunc(s.msgs, gone)
	if all = slices.DeleteFunc(all, gone); len(all) == 0 {
		delete(s.by, subject)
		return
	}
	s.by[subject] = all
}

// elect takes the leader away until an instant. A former one may go on answering
// for a while after that.
func (s *stream) elect(now, until, stale time.Duration) {
	if s.downUntil = until; !s.fresh {
		s.staleAt, s.staleUntil = s.last, max(until, now)+stale
	}
}
