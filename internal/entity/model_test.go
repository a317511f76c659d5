package entity_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// thing is what the model knows of an entity: as little as one can.
type thing struct {
	parent  string
	dead    bool
	version int
	fields  map[string]string
	loans   int
}

// model is an independent and dumb account of what the built-in types do.
type model map[string]*thing

func (m model) root(id string) string {
	for m[id].parent != "" {
		id = m[id].parent
	}
	return id
}

func (m model) children(id string) (out []string) {
	for _, child := range slices.Sorted(maps.Keys(m)) {
		if m[child].parent == id {
			out = append(out, child)
		}
	}
	return out
}

// versions makes a version of each, once.
func (m model) versions(ids ...string) {
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		m[id].version++
	}
}

// there is the code of the failure that a target causes, "" for none.
func (m model) there(id string) string {
	switch {
	case m[id] == nil:
		return entity.FailNotFound
	case m[id].dead:
		return entity.FailDeleted
	}
	return ""
}

func (m model) create(id, parent, colour string) string {
	switch {
	case m[id] != nil && !m[id].dead:
		return entity.FailExists
	case parent == id:
		return entity.FailBadParams
	case parent != "" && m.there(parent) != "":
		return m.there(parent)
	}
	old := m[id]
	if old == nil {
		old = &thing{}
	}
	m[id] = &thing{parent: parent, version: old.version + 1, fields: map[string]string{"colour": colour}, loans: old.loans}
	return ""
}

func (m model) leave(id string) string {
	if f := m.there(id); f != "" {
		return f
	}
	if m[id].parent != "" {
		root := m.root(id)
		m[id].parent = ""
		m.versions(id, root)
	}
	return ""
}

func (m model) attach(id, parent string) string {
	switch f := m.there(id); {
	case f != "":
		return f
	case parent == id:
		return entity.FailBadParams
	case m[id].parent == parent:
		return ""
	case m.there(parent) != "":
		return m.there(parent)
	}
	for up := parent; up != ""; up = m[up].parent {
		if up == id {
			return entity.FailCycle
		}
	}
	touched := []string{id, m.root(parent)}
	if m[id].parent != "" {
		touched = append(touched, m.root(id))
	}
	m[id].parent = parent
	m.versions(touched...)
	return ""
}

func (m model) remove(id string) string {
	if f := m.there(id); f != "" {
		return f
	}
	if len(m.children(id)) > 0 {
		return entity.FailChildren
	}
	m[id] = &thing{dead: true, version: m[id].version + 1, loans: m[id].loans}
	return ""
}

func (m model) borrow(id, source string) string {
	if f := m.there(id); f != "" {
		return f
	}
	if f := m.there(source); f != "" {
		return f
	}
	m[id].fields["colour"] = m[source].fields["colour"]
	m[id].loans++
	return ""
}

// step draws an operation, has the model do it, and returns it with the failure
// that the model expects.
func (m model) step(t *rapid.T, w *world) (*op.Operation, string) {
	id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "id")
	other := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "other")
	colour := rapid.SampledFrom([]string{`"red"`, `"blue"`, `"<&>"`}).Draw(t, "colour")
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0, 1:
		params := map[string]any{"fields": map[string]any{"colour": raw(colour)}}
		parent := ""
		if rapid.Bool().Draw(t, "below") {
			parent = other
			params["parent_id"] = other
		}
		return w.operation(op.TypeCreate, id, params), m.create(id, parent, colour)
	case 2:
		o := w.operation(op.TypeVersion, id, nil)
		f := m.there(id)
		if f == "" {
			m.versions(id)
		}
		return o, f
	case 3:
		o := w.operation(op.TypeModifyField, id, map[string]any{"field_name": "colour", "new_value": raw(colour)})
		f := m.there(id)
		if f == "" {
			m[id].fields["colour"] = colour
		}
		return o, f
	case 4:
		o := w.operation(op.TypeComplexUpdate, id, map[string]any{"set": map[string]any{"colour": raw(colour), "size": 1}})
		f := m.there(id)
		if f == "" {
			m[id].fields["colour"], m[id].fields["size"] = colour, "1"
			m.versions(id)
		}
		return o, f
	case 5:
		o := w.operation(op.TypeBorrow, id, map[string]any{"source_field": "colour", "target_field": "colour"})
		o.Source = other
		return o, m.borrow(id, other)
	case 6:
		return w.operation(rapid.SampledFrom([]string{op.TypePromoteToRoot, op.TypeDetach}).Draw(t, "type"), id, nil), m.leave(id)
	case 7, 8:
		return w.operation(op.TypeAttach, id, map[string]any{"parent_id": other}), m.attach(id, other)
	}
	return w.operation(op.TypeDelete, id, nil), m.remove(id)
}

// TestAgainstTheModel runs operations one after the other, each with all its
// follow-ups, and compares everything the model knows.
func TestAgainstTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, m := newWorld(t), model{}
		for range rapid.IntRange(1, 40).Draw(t, "operations") {
			o, want := m.step(t, w)
			_, f := w.do(o)
			got := ""
			if f != nil {
				got = f.Code
			}
			if got == entity.FailNotFound || got == entity.FailLookup {
				if f.Terminal {
					t.Fatalf("%s is terminal", got)
				}
			} else if f != nil && !f.Terminal {
				t.Fatalf("%s is not terminal", got)
			}
			// Which of two mistakes is named first is not the model's business.
			if got != want && !(got == entity.FailBadParams && want == m.there(o.Target)) && !(want == entity.FailBadParams && got == m.there(o.Target)) {
				t.Fatalf("%s %s %s: failure %q, want %q", o.Type, o.Target, o.Params, got, want)
			}
			w.settle(nil)
			m.compare(t, w)
		}
		w.checkTrees()
		w.checkHistory()
	})
}

func (m model) compare(t *rapid.T, w *world) {
	if len(m) != len(w.heads) {
		t.Fatalf("%d entities, want %d", len(w.heads), len(m))
	}
	for id, want := range m {
		got := w.heads[id]
		fields := map[string]string{}
		for k, v := range got.Fields {
			fields[k] = string(v)
		}
		same := got.ParentID == want.parent && got.RootID == m.root(id) && slices.Equal(got.Children, m.children(id)) &&
			got.Version == uint64(want.version) && got.VersionCount == uint64(want.version-1) && got.Deleted == want.dead &&
			got.BorrowCount == uint64(want.loans) && maps.Equal(fields, want.fields)
		if !same {
			t.Fatalf("%s is %s, want %+v below root %s with children %v", id, encode(t, got), *want, m.root(id), m.children(id))
		}
	}
}

// TestTreesSettle runs operations and follow-ups in any order: each target does
// one thing at a time, and its follow-ups may come in another order than that of
// their causes, as after a take-over. Whatever happened at the same moment, in
// the end every tree is a tree.
func TestTreesSettle(t *testing.T) {
	t.Run("in order", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) { treesSettle(t, func(int) int { return 0 }) })
	})
	t.Run("out of order", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			treesSettle(t, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "which") })
		})
	})
}

// A child leaves and comes back before its parent hears of either, or comes and
// leaves: in whatever order the parent hears it, it knows at the end what is so.
func TestFollowUpsInAnyOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		ops   []string // on the child, after it was attached
		child bool     // the parent has it at the end
	}{
		{"left and came back", []string{op.TypeDetach, op.TypeAttach}, true},
		{"left, came back and left", []string{op.TypeDetach, op.TypeAttach, op.TypeDetach}, false},
		{"was deleted", []string{op.TypeDelete}, false},
		{"came back and was deleted", []string{op.TypeDetach, op.TypeAttach, op.TypeDelete}, false},
	} {
		for _, heard := range []bool{false, true} { // the first attachment, before anything else
			for last := range 2 {
				t.Run(fmt.Sprint(c.name, " ", heard, " ", last), func(t *testing.T) {
					w := newWorld(t)
					run := func(typ, id string, params any) {
						if _, f := w.do(w.operation(typ, id, params)); f != nil {
							t.Fatal(f)
						}
					}
					below := map[string]any{"parent_id": "p"}
					run(op.TypeCreate, "p", nil)
					run(op.TypeCreate, "c", below)
					if heard {
						w.settle(nil)
					}
					for _, typ := range c.ops {
						if typ == op.TypeAttach {
							run(typ, "c", below)
						} else {
							run(typ, "c", nil)
						}
					}
					for n := len(w.queues["p"]); n > 0; n = len(w.queues["p"]) {
						w.deliverAt("p", last*(n-1))
					}
					w.settle(nil)
					has(t, "the child is there", slices.Contains(w.heads["p"].Children, "c"), c.child)
					w.checkTrees()
				})
			}
		}
	}
}

// treesSettle delivers the follow-up which(n) of the n that wait for a target.
func treesSettle(t *rapid.T, which func(n int) int) {
	w := newWorld(t)
	ids := []string{"a", "b", "c", "d", "e"}
	for _, id := range ids {
		if _, f := w.do(w.operation(op.TypeCreate, id, nil)); f != nil {
			t.Fatalf("create: %s", f.Message)
		}
	}
	running := map[string]begun{}
	commit := func(id string) {
		b := running[id]
		delete(running, id)
		w.commit(b.o, b.c)
	}
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		id := rapid.SampledFrom(ids).Draw(t, "id")
		switch _, busy := running[id]; {
		case busy:
			commit(id)
		case len(w.queues[id]) > 0 && rapid.Bool().Draw(t, "deliver"):
			w.deliverAt(id, which(len(w.queues[id])))
		default:
			o := w.place(t, id, ids)
			if c, f := entity.Compute(o, w.heads[id], w.look); f == nil {
				running[id] = begun{o, c}
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(running)) {
		commit(id)
	}
	for n := 0; len(w.queues) > 0; n++ {
		if n > 10000 {
			t.Fatalf("the follow-ups never end")
		}
		id := slices.Sorted(maps.Keys(w.queues))[0]
		w.deliverAt(id, which(len(w.queues[id])))
	}
	w.checkTrees()
	w.checkHistory()
}

// place draws an operation on the place of an entity.
func (w *world) place(t *rapid.T, id string, ids []string) *op.Operation {
	other := rapid.SampledFrom(ids).Draw(t, "other")
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		return w.operation(op.TypePromoteToRoot, id, nil)
	case 1:
		return w.operation(op.TypeDelete, id, nil)
	case 2:
		return w.operation(op.TypeCreate, id, map[string]any{"parent_id": other})
	}
	return w.operation(op.TypeAttach, id, map[string]any{"parent_id": other})
}
