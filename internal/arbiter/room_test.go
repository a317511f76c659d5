package arbiter_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// room drives a machine step by step and keeps every step within one message.
type room struct {
	t  *testing.T
	m  *arbiter.Machine
	n  uint64
	at time.Time
}

func newRoom(t *testing.T) *room {
	return &room{t: t, m: arbiter.New(0), at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func (r *room) step(in ...arbiter.Input) *arbiter.Step {
	r.t.Helper()
	r.n++
	s := &arbiter.Step{Schema: arbiter.StepSchema, ID: fmt.Sprint("room-", r.n), Number: r.n, At: r.at, In: in}
	r.m.Step(s)
	data, err := op.Marshal(s)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(data) > 1000<<10 {
		r.t.Fatalf("step %d takes %d bytes with %d inputs and %d effects", r.n, len(data), len(in), len(s.Out))
	}
	return s
}

func long(prefix string, i int) string {
	s := fmt.Sprint(prefix, "-", i)
	return s + strings.Repeat("x", op.MaxToken-len(s))
}

func (r *room) submit(id, target, parent string) arbiter.Input {
	none := 0
	return arbiter.Input{Submit: &arbiter.Submit{
		Place: op.Place{Seq: r.n + 1, Index: int(r.n % 7)},
		Operation: op.Operation{
			ID: id, Type: op.TypeVersion, Target: target, Priority: op.Low, Parent: parent, MaxRetries: &none, OnConflict: op.OnConflictReject,
		},
	}}
}

// Many decisions that are due at once, with the longest ids and paths there are,
// are spread over steps that each fit into a message.
func TestManyDecisionsWithLongPathsFit(t *testing.T) {
	r := newRoom(t)
	r.step(arbiter.Input{Policy: &arbiter.Policy{StagingWindow: time.Second, AttemptTimeout: time.Minute, MaxOperationAge: time.Hour, MaxStaged: 2000, MaxExecuting: 1000}})
	for i := range arbiter.MaxDepth {
		kin := arbiter.Kin{OpID: long("ancestor", i), Priority: op.Low}
		if i == arbiter.MaxDepth-1 {
			kin.Priority = op.Critical
		} else {
			kin.Parent = long("ancestor", i+1)
		}
		r.step(arbiter.Input{Kin: &kin})
	}
	for target := range 64 {
		for i := range 12 {
			r.step(r.submit(long(fmt.Sprint("op-", target), i), long("target", target), long("ancestor", 0)))
		}
	}
	r.at = r.at.Add(2 * time.Second)
	decided := 0
	for steps := 0; decided < 64; steps++ {
		for _, e := range r.step().Out {
			if e.Decision != nil {
				decided++
			}
		}
		if steps > 200 {
			t.Fatalf("%d of 64 targets are decided after %d steps", decided, steps)
		}
	}
}

// A large staging area gets its turn although smaller ones want every place that
// gets free.
func TestALargeAreaIsNotOvertaken(t *testing.T) {
	r := newRoom(t)
	r.step(arbiter.Input{Policy: &arbiter.Policy{AttemptTimeout: time.Hour, MaxOperationAge: 24 * time.Hour, MaxStaged: 2000, MaxExecuting: 10}})
	var running []*arbiter.Granted
	grants := func(s *arbiter.Step) (large bool) {
		for _, e := range s.Out {
			if e.Granted != nil {
				running = append(running, e.Granted)
				large = large || e.Granted.Target == "large"
			}
		}
		return large
	}
	next := 0
	small := func() arbiter.Input {
		next++
		return r.submit(fmt.Sprint("small-", next), fmt.Sprint("small-", next), "")
	}
	for range 40 {
		grants(r.step(small()))
	}
	for i := range 1000 {
		grants(r.step(r.submit(long("large", i), "large", "")))
	}
	for range 500 {
		if r.m.Backlog() {
			if grants(r.step()) {
				return
			}
			continue
		}
		done := running[0]
		running = running[1:]
		in := arbiter.Input{Result: &arbiter.Result{OpID: done.OpID, Target: done.Target, Attempt: done.Attempt, Change: []byte("{}")}}
		if grants(r.step(in, small())) {
			return
		}
	}
	t.Fatal("the large area was not decided in 500 steps")
}
