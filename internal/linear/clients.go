package linear

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Reader reads the head of an entity; not found is the zero View. The one to check
// is [FromLeader]; tests bring others, which have to be caught.
type Reader func(ctx context.Context, id string) (View, error)

// Workload is many clients on few entities. Conns, Clients, Entities, Calls and Name
// are required.
type Workload struct {
	Conns    []*nats.Conn                     // of the clients, who share them evenly
	Read     func(*nats.Conn) (Reader, error) // makes the reader of a connection; nil: FromLeader
	Clients  int
	Entities int
	Calls    int64         // after which no new one is begun
	Patience time.Duration // with one request; default 15 s
	Seed     uint64
	Name     string // of the run, a token; it starts every id
	// Forge is what is sent in place of an operation; nil: the operation. It is for
	// tests that want to be caught.
	Forge func(o op.Operation) op.Operation
}

// FromLeader reads heads from the leader of their stream.
func FromLeader(nc *nats.Conn) (Reader, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := bus.Open(ctx, nc)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, id string) (View, error) {
		data, found, err := b.Entity(ctx, id)
		if err != nil || !found {
			return View{}, err
		}
		return ViewOf(data)
	}, nil
}

// errHead: there was an answer, and it is not the head of an entity.
var errHead = errors.New("linear: head")

// ViewOf reads the head of an entity that a [Workload] wrote.
func ViewOf(head []byte) (View, error) {
	var e struct {
		Version  uint64 `json:"version"`
		Revision uint64 `json:"revision"`
		Deleted  bool   `json:"deleted"`
		Fields   struct {
			Count int    `json:"n"`
			Value string `json:"v"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(head, &e); err != nil {
		return View{}, fmt.Errorf("%w: %w", errHead, err)
	}
	return View{Alive: !e.Deleted, Version: e.Version, Revision: e.Revision, Count: e.Fields.Count, Value: e.Fields.Value}, nil
}

// Run has the clients work until Calls are begun or ctx ends. Then no client
// begins anything; what is under way is waited for. A head that cannot be read is an
// error: a read without an answer would say nothing about it.
func (w *Workload) Run(ctx context.Context, into *Recorder) error {
	if w.Patience == 0 {
		w.Patience = 15 * time.Second
	}
	if w.Read == nil {
		w.Read = FromLeader
	}
	readers := make([]Reader, len(w.Conns))
	for i, nc := range w.Conns {
		var err error
		if readers[i], err = w.Read(nc); err != nil {
			return err
		}
	}
	s := &session{Workload: w, into: into}
	var wg sync.WaitGroup
	for i := range w.Clients {
		c := &client{
			session: s, id: i, nc: w.Conns[i%len(w.Conns)], read: readers[i%len(readers)], last: map[string]View{},
			rng: rand.New(rand.NewPCG(w.Seed, uint64(i))), //nolint:gosec // reproducible on purpose
		}
		wg.Go(func() { c.run(ctx) })
	}
	wg.Wait()
	return s.bad
}

// session is what the clients of a run share.
type session struct {
	*Workload
	into  *Recorder
	begun atomic.Int64

	mu     sync.Mutex
	bad    error            // the first head that could not be read: no answer at all, and nobody's patience
	recent [32]op.Operation // to be submitted again by anyone
}

// client makes one call after the other.
type client struct {
	*session
	id   int
	nc   *nats.Conn
	read Reader
	rng  *rand.Rand
	next int
	last map[string]View // what it saw last
}

func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil && c.begun.Add(1) <= c.Calls {
		// Low numbers are hot: the smaller one of two.
		id := fmt.Sprintf("%s-e%d", c.Name, min(c.rng.IntN(c.Entities), c.rng.IntN(c.Entities)))
		switch n := c.rng.IntN(100); {
		case n < 40:
			c.look(ctx, id)
		case n < 46:
			if o := c.old(); o.ID != "" {
				c.submit(ctx, o)
			}
		default:
			c.write(ctx, c.operation(id))
		}
	}
}

// look reads an entity.
func (c *client) look(ctx context.Context, id string) {
	call := Call{Client: c.id, Kind: Read, Entity: id, Expected: None, Begin: c.into.Now()}
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	v, err := c.read(ctx, id)
	switch {
	case err == nil:
		call.End, call.Seen = c.into.Now(), v
		c.last[id] = v
	case errors.Is(err, errHead):
		c.mu.Lock()
		c.bad = cmp.Or(c.bad, fmt.Errorf("%s: %w", id, err))
		c.mu.Unlock()
	}
	c.into.Add(call)
}

// old is an operation that somebody submitted a while ago, or is about to.
func (c *client) old() op.Operation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent[c.rng.IntN(len(c.recent))]
}

// operation makes one that fits what the client saw last, more or less.
func (c *client) operation(id string) op.Operation {
	c.next++
	o := op.Operation{
		ID: fmt.Sprintf("%s-%d-%d", c.Name, c.id, c.next), Target: id, Priority: op.Priority(1 + c.rng.IntN(10)),
		OnConflict: []op.Conflict{op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry}[c.rng.IntN(3)],
	}
	value := strconv.Quote(o.ID)
	seen := c.last[id]
	n := c.rng.IntN(100)
	switch {
	case !seen.Alive && n < 90:
		o.Type, o.Params = op.TypeCreate, json.RawMessage(`{"fields":{"n":0,"v":`+value+`}}`)
	case n < 3:
		o.Type = op.TypeDelete
	case n < 30:
		o.Type, o.Params = op.TypeModifyField, json.RawMessage(`{"field_name":"v","new_value":`+value+`}`)
	default:
		o.Type, o.Params = op.TypeComplexUpdate, json.RawMessage(`{"set":{"v":`+value+`},"increment":{"n":1}}`)
	}
	if c.rng.IntN(3) > 0 {
		expected := int64(seen.Version) //nolint:gosec // small numbers
		o.ExpectedVersion = &expected
	}
	c.mu.Lock()
	c.recent[c.rng.IntN(len(c.recent))] = o
	c.mu.Unlock()
	return o
}

// write submits an operation until its outcome is known.
func (c *client) write(ctx context.Context, o op.Operation) {
	for !c.submit(ctx, o) && ctx.Err() == nil { // again under the same id
	}
}

var kinds = map[string]Kind{
	op.TypeCreate: Create, op.TypeComplexUpdate: Update, op.TypeModifyField: Modify, op.TypeDelete: Delete,
}

// submit submits an operation once and waits for its end. It reports false when
// the outcome is not known.
func (c *client) submit(ctx context.Context, o op.Operation) (known bool) {
	call := Call{Client: c.id, Kind: kinds[o.Type], Entity: o.Target, OpID: o.ID, Expected: None, Verdict: Unknown}
	if o.ExpectedVersion != nil {
		call.Expected = *o.ExpectedVersion
	}
	if c.Forge != nil {
		o = c.Forge(o)
	}
	body, err := op.Marshal(&o)
	if err != nil {
		panic(err) // made here
	}
	m := nats.NewMsg(bus.APISubject("submit"))
	m.Data = body
	m.Header.Set("Ops-Wait", "done")
	m.Header.Set("Ops-Timeout", c.Patience.String())
	call.Begin = c.into.Now()
	ctx, cancel := context.WithTimeout(ctx, c.Patience+time.Second)
	defer cancel()
	r, err := c.nc.RequestMsgWithContext(ctx, m)
	end := c.into.Now()
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		pause(ctx, 20*time.Millisecond)
		return false // it was not sent
	case err != nil:
		pause(ctx, 20*time.Millisecond) // a connection that is being made again fails at once
	default:
		call.Verdict, call.Seen, known = told(r)
		if known {
			call.End = end
			c.remember(&call)
		}
	}
	if call.Verdict == "" {
		pause(ctx, 50*time.Millisecond)
		return true // refused at the edge: nothing was stored, there is nothing to check
	}
	c.into.Add(call)
	return known
}

// remember keeps what an answer says about the entity, for the next expected_version.
func (c *client) remember(call *Call) {
	v := c.last[call.Entity]
	switch call.Verdict {
	case Applied:
		v = View{Alive: call.Kind != Delete, Version: call.Seen.Version, Revision: call.Seen.Revision}
	case Stale:
		v.Version = call.Seen.Version
	case Exists:
		v.Alive = true
	case Missing:
		v.Alive = false
	case Unknown, Lost:
	}
	c.last[call.Entity] = v
}

// told reads an answer. The verdict is empty where the edge refused.
func told(r *nats.Msg) (v Verdict, seen View, known bool) {
	if r.Header.Get(micro.ErrorHeader) != "" {
		var e op.Error
		if json.Unmarshal(r.Data, &e) != nil || e.Code == op.CodeUnavailable || e.Code == "" {
			return Unknown, seen, false
		}
		return "", seen, true
	}
	var a struct {
		Done    bool        `json:"done"`
		Records []op.Record `json:"records"`
	}
	if json.Unmarshal(r.Data, &a) != nil || !a.Done || len(a.Records) != 1 {
		return Unknown, seen, false
	}
	v, seen = VerdictOf(&a.Records[0])
	return v, seen, true
}

// VerdictOf is what the record of an operation that has ended says.
func VerdictOf(r *op.Record) (Verdict, View) {
	switch {
	case r.Status == op.Succeeded:
		return Applied, View{Version: r.Version, Revision: r.Revision}
	case r.Reason == op.StaleVersion && r.Error != nil && r.Error.CurrentVersion != nil:
		return Stale, View{Version: *r.Error.CurrentVersion}
	case r.Error == nil || r.Reason != op.TerminalError && r.Reason != op.MaxRetries:
		return Lost, View{}
	}
	switch r.Error.Code {
	case entity.FailExists:
		return Exists, View{}
	case entity.FailNotFound, entity.FailDeleted:
		return Missing, View{}
	}
	return Lost, View{}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
