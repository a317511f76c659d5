package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// load submits and keeps the book.
type load struct {
	bus  *bus.Bus
	nc   *nats.Conn
	draw *workload
	book *book
	wg   sync.WaitGroup
	room chan struct{} // bounds the tasks under way
}

const (
	// underWay bounds what waits for an answer at once. When it is full, the load
	// slows down: an outage must not end in a flood.
	underWay = 400
	// insist is how long a submission is repeated while nobody answers.
	insist = 40 * time.Second
	// askTimeout is the patience with one request.
	askTimeout = 4 * time.Second
)

func newLoad(s *site, run string) *load {
	return &load{
		bus: s.bus, nc: s.nc, draw: newWorkload(run, s.Seed, !s.Server), book: newBook(), room: make(chan struct{}, underWay),
	}
}

// prepare creates the entities: straight into the log, parents before children.
func (l *load) prepare(ctx context.Context, g *ledger) error {
	roots, children := l.draw.entities()
	for _, ops := range [][]op.Operation{roots, children} {
		for i := range ops {
			l.do(ctx, task{ops: ops[i : i+1]})
		}
		if err := l.settle(ctx, g, time.Minute); err != nil {
			return fmt.Errorf("torture: creating the entities: %w", err)
		}
		for i := range ops {
			if f := g.fate(ops[i].ID); f.status != op.Succeeded {
				return fmt.Errorf("torture: the entity %s could not be created", ops[i].Target)
			}
		}
	}
	return nil
}

// settle waits until nothing of the run is open.
func (l *load) settle(ctx context.Context, g *ledger, patience time.Duration) error {
	over := time.NewTimer(patience)
	defer over.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	least := math.MaxInt
	for {
		open, missing := g.open(l.book)
		switch n := open + missing; {
		case n == 0:
			return nil
		case n < least:
			least = n
			over.Reset(patience)
		}
		select {
		case <-tick.C:
		case <-over.C:
			return fmt.Errorf("%d operations are open and %d acknowledged ones are not in the log, and nothing ends", open, missing)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run submits so many operations a second until ctx ends, and waits for the last
// answers: what is under way then is still insisted on.
func (l *load) run(ctx context.Context, rate float64) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	defer l.wg.Wait()
	for {
		t := l.draw.next()
		for range t.ops { // so many operations a second, however they are packed
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		select {
		case <-ctx.Done():
			return
		case l.room <- struct{}{}:
		}
		l.wg.Go(func() {
			defer func() { <-l.room }()
			l.do(lasting, t)
		})
	}
}

// do does one task and notes the answers. It is repeated under the same ids while
// nobody answers.
func (l *load) do(ctx context.Context, t task) {
	ctx, cancel := context.WithTimeout(ctx, insist)
	defer cancel()
	if t.way != wayCancel && t.way != waySweep {
		for i := range t.ops {
			l.book.ask(t.ops[i].ID, t.ops[i].Target)
		}
	}
	for n := 0; ; n++ {
		known := l.try(ctx, t, n)
		if known || t.give || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// try does a task once and reports whether all of it is answered.
func (l *load) try(ctx context.Context, t task, n int) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	switch t.way {
	case wayLog:
		_, err := l.bus.Publish(ctx, bus.SubmitSubject(t.ops[0].Target), body(t.ops), "", nil)
		return l.noted(t, err)
	case wayCancel:
		return l.cancel(ctx, t, n)
	case waySweep:
		_, err := l.ask(ctx, "cancel", encode(map[string]string{"submitter": t.ops[0].Submitter}), nil)
		return err == nil || !errors.Is(err, errSilence)
	case wayBulk:
		return l.bulk(ctx, t)
	case wayAPI, wayWait, wayWrong:
	}
	h := nats.Header{}
	if t.way == wayWait {
		h.Set("Ops-Wait", "done")
		h.Set("Ops-Timeout", "3s")
	}
	answer, err := l.ask(ctx, "submit", body(t.ops), h)
	if t.way == wayWait && err == nil {
		var w struct {
			Records []op.Record `json:"records"`
		}
		if json.Unmarshal(answer, &w) == nil {
			for i := range w.Records {
				l.book.told(w.Records[i].OpID, w.Records[i].Status)
			}
		}
	}
	return l.noted(t, err)
}

// errSilence: nobody answered, or whoever answered does not know.
var errSilence = errors.New("torture: nobody knows")

// ask sends a request to a submitter.
func (l *load) ask(ctx context.Context, verb string, data []byte, h nats.Header) ([]byte, error) {
	m := &nats.Msg{Subject: bus.APISubject(verb), Data: data, Header: h}
	r, err := l.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSilence, err)
	}
	if r.Header.Get("Nats-Service-Error-Code") == "" {
		return r.Data, nil
	}
	var e op.Error
	if json.Unmarshal(r.Data, &e) != nil || e.Code == op.CodeUnavailable {
		return nil, fmt.Errorf("%w: %s", errSilence, e.Message)
	}
	return nil, &e
}

// noted keeps the answer for all operations of a task and reports whether there is
// one.
func (l *load) noted(t task, err error) bool {
	a := accepted
	switch {
	case err == nil:
	case errors.Is(err, errSilence), errors.Is(err, bus.ErrUnknownOutcome):
		a = unknown
	default:
		a = refused
	}
	for i := range t.ops {
		l.book.note(t.ops[i].ID, a)
	}
	return a != unknown
}

// bulk submits several operations and notes the answer of each.
func (l *load) bulk(ctx context.Context, t task) bool {
	answer, err := l.ask(ctx, "bulk", body(t.ops), nil)
	if err != nil {
		return l.noted(t, err)
	}
	var r struct {
		Results []struct {
			OpID  string    `json:"op_id"`
			Error *op.Error `json:"error"`
		} `json:"results"`
	}
	if err := json.Unmarshal(answer, &r); err != nil || len(r.Results) != len(t.ops) {
		return l.noted(t, errSilence) // of some, nothing is said
	}
	known := true
	for _, one := range r.Results {
		a := accepted
		switch {
		case one.Error == nil:
		case one.Error.Code == op.CodeUnavailable:
			a, known = unknown, false
		default:
			a = refused
		}
		l.book.note(one.OpID, a)
	}
	return known
}

// cancel asks for the end of an operation, by turns of a submitter and of the log.
func (l *load) cancel(ctx context.Context, t task, n int) bool {
	id, target := t.ops[0].ID, t.ops[0].Target
	if (len(id)+int(id[len(id)-1])+n)%2 == 0 {
		_, err := l.ask(ctx, "cancel", encode(map[string]string{"op_id": id, "target_entity_id": target}), nil)
		return err == nil || !errors.Is(err, errSilence)
	}
	_, err := l.bus.Publish(ctx, bus.CancelSubject(target), encode(map[string]string{"op_id": id}), "", nil)
	return !errors.Is(err, bus.ErrUnknownOutcome)
}

// body is the operations as a client writes them.
func body(ops []op.Operation) []byte {
	if len(ops) == 1 {
		return encode(&ops[0])
	}
	return encode(ops)
}
