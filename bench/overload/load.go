package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// drainTime bounds the wait for answers and ends after a phase.
const drainTime = 2 * time.Minute

// load submits operations on some entities, each in a request of its own, and
// keeps account of answers and ends.
type load struct {
	nc       *nats.Conn
	inbox    string
	targets  []string
	conflict string
	clients  int // requests without an answer at most
	prefix   string
	n        int

	mu       sync.Mutex
	news     chan struct{}        // one notice is enough
	sent     map[string]time.Time // neither answered nor ended
	accepted map[string]time.Time // not ended; when it was sent
	early    map[string]string    // ended before the answer came: how
	took     []sample
	edge     []float64 // ms from submission to its acknowledgement
	book     account
}

// sample is how long an operation took, from submission to the news of the end.
type sample struct {
	target string
	ms     float64
}

// account is what became of submissions.
type account struct {
	Sent      int            `json:"sent"`
	Accepted  int            `json:"accepted"`
	Refused   map[string]int `json:"refused"` // by code
	Bare      int            `json:"refused_without_retry_after"`
	Ends      map[string]int `json:"ends"` // by status, or by reason where it was not SUCCEEDED
	Silent    int            `json:"without_answer"`
	Open      int            `json:"accepted_without_end"`
	Held      int            `json:"held_back"` // not sent: too many had no answer
	Succeeded int            `json:"succeeded"`
}

func newLoad(nc *nats.Conn, targets []string, o *options) (*load, error) {
	l := &load{
		nc: nc, inbox: nats.NewInbox(), targets: targets, conflict: o.conflict, clients: o.clients, prefix: targets[0][:1],
		news: make(chan struct{}, 1),
		sent: map[string]time.Time{}, accepted: map[string]time.Time{}, early: map[string]string{},
	}
	l.reset()
	answers, err := nc.Subscribe(l.inbox+".*", l.answer)
	if err != nil {
		return nil, err
	}
	subs := []*nats.Subscription{answers}
	for _, target := range targets {
		for _, name := range []string{"completed", "rejected", "cancelled"} {
			sub, err := nc.Subscribe("ops.event.operation."+name+"."+target, l.end)
			if err != nil {
				return nil, err
			}
			subs = append(subs, sub)
		}
	}
	for _, sub := range subs {
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			return nil, err
		}
	}
	return l, nc.Flush()
}

// reset forgets the account, which must be settled.
func (l *load) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took, l.edge = nil, nil
	l.book = account{Refused: map[string]int{}, Ends: map[string]int{}}
}

const increment = `{"op_id":%q,"op_type":"complex_update","target_entity_id":%q,"on_conflict":%q,"params":{"increment":{"n":1}}}`

// send submits one operation. It reports false when it was held back.
func (l *load) send() (bool, error) {
	target := l.targets[l.n%len(l.targets)]
	return l.submit(target, func(id string) []byte { return fmt.Appendf(nil, increment, id, target, l.conflict) })
}

func (l *load) submit(target string, body func(id string) []byte) (bool, error) {
	l.n++
	id := l.prefix + "-" + strconv.Itoa(l.n)
	l.mu.Lock()
	if len(l.sent) >= l.clients {
		l.book.Held++
		l.mu.Unlock()
		return false, nil
	}
	l.sent[id] = time.Now()
	l.book.Sent++
	l.mu.Unlock()
	if err := l.nc.PublishRequest("ops.api.submit", l.inbox+"."+id, body(id)); err != nil {
		return false, fmt.Errorf("submit on %s: %w", target, err)
	}
	return true, nil
}

// create makes the entities and waits for them.
func (l *load) create(ctx context.Context) error {
	for _, target := range l.targets {
		_, err := l.submit(target, func(id string) []byte {
			return fmt.Appendf(nil, `{"op_id":%q,"op_type":"create_entity","target_entity_id":%q,"params":{"fields":{"n":0}}}`, id, target)
		})
		if err != nil {
			return err
		}
	}
	if err := l.drain(ctx); err != nil {
		return err
	}
	if a := l.account(); a.Succeeded != len(l.targets) {
		return fmt.Errorf("%d of %d entities were created: refused %v, ended %v", a.Succeeded, len(l.targets), a.Refused, a.Ends)
	}
	l.reset()
	return nil
}

// run submits at a rate, evenly, for a while. What could not be sent in time is
// sent late or held back; it is not made up for.
func (l *load) run(ctx context.Context, rate float64, d time.Duration) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, due := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		elapsed := time.Since(began)
		if elapsed >= d {
			return nil
		}
		for ; due < int(rate*elapsed.Seconds()); due++ {
			if _, err := l.send(); err != nil {
				return err
			}
		}
	}
}

// capacity keeps some hundred operations waiting and counts how many end a second.
func (l *load) capacity(ctx context.Context, d time.Duration) (float64, error) {
	const waiting = 500
	began := time.Now()
	var warm time.Time
	before := 0
	for time.Since(began) < d {
		if warm.IsZero() && time.Since(began) > d/4 {
			warm, before = time.Now(), l.succeeded()
		}
		for l.open() < waiting {
			if _, err := l.send(); err != nil {
				return 0, err
			}
		}
		select {
		case <-l.news:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(drainTime):
			return 0, errors.New("nothing ends")
		}
	}
	rate := float64(l.succeeded()-before) / time.Since(warm).Seconds()
	return rate, l.drain(ctx)
}

func (l *load) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sent) + len(l.accepted)
}

func (l *load) succeeded() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book.Succeeded
}

// ended is how many have ended so far, however.
func (l *load) ended() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.book.Ends {
		n += k
	}
	return n
}

// drain waits until every request is answered and everything accepted has ended,
// or for two minutes: what is left then stands in the account.
func (l *load) drain(ctx context.Context) error {
	over := time.NewTimer(drainTime)
	defer over.Stop()
	for l.open() > 0 {
		select {
		case <-l.news:
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return nil
		}
	}
	return nil
}

// answer books what the submitter says. The id stands in the subject.
func (l *load) answer(m *nats.Msg) {
	id := m.Subject[len(l.inbox)+1:]
	l.mu.Lock()
	defer l.mu.Unlock()
	since, waited := l.sent[id]
	if !waited {
		return
	}
	delete(l.sent, id)
	defer l.tell()
	if code := m.Header.Get(micro.ErrorCodeHeader); code != "" {
		l.book.Refused["OPS-"+code]++
		if !bytes.Contains(m.Data, []byte(`"retry_after_ms":`)) {
			l.book.Bare++
		}
		return
	}
	l.book.Accepted++
	l.edge = append(l.edge, time.Since(since).Seconds()*1000)
	l.accepted[id] = since
	if how, ok := l.early[id]; ok {
		delete(l.early, id)
		l.close(id, how)
	}
}

// end books the end of an operation.
func (l *load) end(m *nats.Msg) {
	id, how := member(m.Data, "op_id"), member(m.Data, "reason")
	if how == "" {
		how = member(m.Data, "to_state")
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	since, accepted := l.accepted[id]
	if accepted {
		l.close(id, how)
		l.tell()
	} else if since, accepted = l.sent[id]; accepted {
		l.early[id] = how
	}
	if accepted {
		target := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
		l.took = append(l.took, sample{target, now.Sub(since).Seconds() * 1000})
	}
}

// close books an end. The lock is held.
func (l *load) close(id, how string) {
	delete(l.accepted, id)
	l.book.Ends[how]++
	if how == "SUCCEEDED" {
		l.book.Succeeded++
	}
}

func (l *load) tell() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// member reads a string out of a compact JSON object without decoding all of it.
func member(data []byte, name string) string {
	_, rest, ok := bytes.Cut(data, []byte(`"`+name+`":"`))
	if !ok {
		return ""
	}
	v, _, _ := bytes.Cut(rest, []byte{'"'})
	return string(v)
}

// account is the account so far.
func (l *load) account() account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.book
	a.Refused, a.Ends = maps.Clone(a.Refused), maps.Clone(a.Ends)
	a.Silent, a.Open = len(l.sent), len(l.accepted)
	return a
}

// latencies are those since the last call: of all targets, of those that which
// selects, of the others, and of all acknowledgements.
func (l *load) latencies(which func(target string) bool) (all, these, others, edge latency) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var a, b []float64
	for _, s := range l.took {
		if which(s.target) {
			a = append(a, s.ms)
		} else {
			b = append(b, s.ms)
		}
	}
	all = summary(slices.Concat(a, b))
	these, others, edge = summary(a), summary(b), summary(l.edge)
	l.took, l.edge = nil, nil
	return all, these, others, edge
}

func summary(ms []float64) latency {
	slices.Sort(ms)
	return latency{N: len(ms), P50: quantile(ms, 0.5), P99: quantile(ms, 0.99), Max: quantile(ms, 1)}
}
