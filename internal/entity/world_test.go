package entity_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// tb is what both testing and rapid offer.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is the smallest system that entities can live in: heads, timelines and
// one queue of follow-ups a target. Everything happens when a test says so.
type world struct {
	tb     tb
	heads  map[string]*entity.Entity
	lines  map[string]*entity.Timeline
	queues map[string][]op.Operation
	now    time.Time
	ops    int
	// bytes holds every version as it was when it was made.
	bytes map[string][][]byte
	log   []string // what was committed, for whoever has to find out why
}

func newWorld(tb tb) *world {
	return &world{
		tb: tb, heads: map[string]*entity.Entity{}, lines: map[string]*entity.Timeline{}, queues: map[string][]op.Operation{},
		now: time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC), bytes: map[string][][]byte{},
	}
}

func (w *world) look(id string) (*entity.Entity, error) { return w.heads[id], nil }

func (w *world) operation(typ, target string, params any) *op.Operation {
	w.ops++
	o := &op.Operation{ID: fmt.Sprintf("op%d", w.ops), Type: typ, Target: target}
	if params != nil {
		b, err := op.Marshal(params)
		if err != nil {
			w.tb.Fatalf("params: %v", err)
		}
		o.Params = b
	}
	return o
}

// commit folds a change, checks that nothing old was touched, and queues its
// follow-ups.
func (w *world) commit(o *op.Operation, c *entity.Change) *entity.Entity {
	w.tb.Helper()
	c = throughJSON(w.tb, c)
	before := w.heads[o.Target]
	was := encode(w.tb, before)
	w.now = w.now.Add(time.Second)
	after, err := entity.Apply(before, c, o.ID, w.now)
	if err != nil {
		w.tb.Fatalf("%s %s: %v", o.Type, o.Target, err)
	}
	if !bytes.Equal(was, encode(w.tb, before)) {
		w.tb.Fatalf("%s changed the entity before", o.Type)
	}
	if w.lines[o.Target] == nil {
		w.lines[o.Target] = &entity.Timeline{}
	}
	if err := w.lines[o.Target].Add(c, o.ID, w.now); err != nil {
		w.tb.Fatalf("timeline: %v", err)
	}
	if by := after.AppendJSON(nil); !bytes.Equal(by, encode(w.tb, after)) {
		w.tb.Fatalf("AppendJSON writes\n%s instead of\n%s", by, encode(w.tb, after))
	}
	// The head goes through JSON, as a head in a view does.
	w.heads[o.Target] = throughJSON(w.tb, after)
	if before == nil || after.Version != before.Version {
		w.bytes[o.Target] = append(w.bytes[o.Target], encode(w.tb, after))
	}
	w.log = append(w.log, fmt.Sprintf("%s %s %s %s => %s", o.ID, o.Type, o.Target, o.Params, encode(w.tb, c)))
	for i, f := range c.Follow {
		next, err := f.Operation(o.ID, i)
		if err != nil {
			w.tb.Fatalf("follow-up: %v", err)
		}
		w.queues[f.Target] = append(w.queues[f.Target], next)
	}
	return after
}

// do runs one operation without its follow-ups.
func (w *world) do(o *op.Operation) (*entity.Entity, *op.Failure) {
	w.tb.Helper()
	c, f := entity.Compute(o, w.heads[o.Target], w.look)
	if f != nil {
		return nil, f
	}
	return w.commit(o, c), nil
}

// deliver runs the first follow-up that waits for target.
func (w *world) deliver(target string) *entity.Entity {
	w.tb.Helper()
	return w.deliverAt(target, 0)
}

// deliverAt runs the i-th follow-up that waits for target.
func (w *world) deliverAt(target string, i int) *entity.Entity {
	w.tb.Helper()
	o := w.queues[target][i]
	if w.queues[target] = slices.Delete(w.queues[target], i, i+1); len(w.queues[target]) == 0 {
		delete(w.queues, target)
	}
	if err := entity.CheckParams(&o); err != nil {
		w.tb.Fatalf("a follow-up has bad params: %v", err)
	}
	e, f := w.do(&o)
	if f != nil {
		w.tb.Fatalf("a follow-up on %s failed: %s", target, f.Message)
	}
	return e
}

// settle runs every follow-up and what follows from it.
func (w *world) settle(each func(*entity.Entity)) {
	w.tb.Helper()
	for n := 0; len(w.queues) > 0; n++ {
		if n > 10000 {
			w.tb.Fatalf("the follow-ups never end")
		}
		if e := w.deliver(slices.Sorted(maps.Keys(w.queues))[0]); each != nil {
			each(e)
		}
	}
}

// checkTrees asks that both sides of every edge agree, that there is no cycle and
// that everybody knows the root.
func (w *world) checkTrees() {
	w.tb.Helper()
	for id, e := range w.heads {
		for _, child := range e.Children {
			if c := w.heads[child]; c == nil || c.ParentID != id {
				w.broken("%s has the child %s, which says otherwise", id, child)
			}
		}
		if p := w.heads[e.ParentID]; e.ParentID != "" && (p == nil || p.Deleted || !slices.Contains(p.Children, id)) {
			w.broken("%s has the parent %s, which says otherwise", id, e.ParentID)
		}
		root := e
		for steps := 0; root.ParentID != ""; steps++ {
			if steps > len(w.heads) {
				w.broken("%s lies in a cycle", id)
			}
			root = w.heads[root.ParentID]
		}
		if e.RootID != root.ID {
			w.broken("%s has the root %s instead of %s", id, e.RootID, root.ID)
		}
	}
}

func (w *world) broken(format string, args ...any) {
	w.tb.Helper()
	w.tb.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.log, "\n"))
}

// checkHistory asks that every version still has its bytes, and that folding to
// the last revision gives the head.
func (w *world) checkHistory() {
	w.tb.Helper()
	for id, line := range w.lines {
		for i, want := range w.bytes[id] {
			e, ok := line.Version(uint64(i + 1))
			if !ok || !bytes.Equal(encode(w.tb, e), want) {
				w.tb.Fatalf("version %d of %s changed:\n%s\nwas\n%s", i+1, id, encode(w.tb, e), want)
			}
		}
		if _, ok := line.Version(uint64(len(w.bytes[id]) + 1)); ok {
			w.tb.Fatalf("%s has more versions than were made", id)
		}
		head := w.heads[id]
		e, ok := line.Revision(head.Revision)
		if !ok || !bytes.Equal(encode(w.tb, e), encode(w.tb, head)) {
			w.tb.Fatalf("the last revision of %s is not its head:\n%s\n%s", id, encode(w.tb, e), encode(w.tb, head))
		}
		size := 0
		for name, v := range head.Fields {
			size += len(name) + len(v)
			if _, ok := head.AttributeSource[name]; !ok {
				w.tb.Fatalf("%s.%s has no entry in attribute_source", id, name)
			}
		}
		if size != head.Size || len(head.Fields) != len(head.AttributeSource) {
			w.tb.Fatalf("%s: size %d instead of %d, %d fields, %d sources", id, head.Size, size, len(head.Fields), len(head.AttributeSource))
		}
	}
}

func encode(tb tb, v any) []byte {
	b, err := op.Marshal(v)
	if err != nil {
		tb.Fatalf("encode: %v", err)
	}
	return b
}

func throughJSON[T any](tb tb, v *T) *T {
	n := new(T)
	if err := json.Unmarshal(encode(tb, v), n); err != nil {
		tb.Fatalf("decode: %v", err)
	}
	return n
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func has(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}
