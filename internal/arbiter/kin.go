package arbiter

import (
	"slices"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// MaxDepth bounds the walk over the ancestors (contract §3.3).
const MaxDepth = 32

// RecentOperations is how many ended operations and foreign ancestors a
// partition remembers: for repeated submissions of an id and for inheritance.
const RecentOperations = 8192

// recent remembers the last operations in the order in which they came.
type recent struct {
	byID map[string]Kin
	ring []string
	next int
}

func newRecent() *recent { return &recent{byID: map[string]Kin{}} }

func (r *recent) has(id string) bool {
	k, ok := r.byID[id]
	return ok && !k.foreign
}

func (r *recent) add(k Kin) {
	if old, ok := r.byID[k.OpID]; ok {
		k.foreign = k.foreign && old.foreign
		r.byID[k.OpID] = k
		return
	}
	r.byID[k.OpID] = k
	if len(r.ring) < RecentOperations {
		r.ring = append(r.ring, k.OpID)
		return
	}
	delete(r.byID, r.ring[r.next])
	r.ring[r.next] = k.OpID
	r.next = (r.next + 1) % RecentOperations
}

// inOrder returns what is remembered, oldest first.
func (r *recent) inOrder() []Kin {
	ids := slices.Concat(r.ring[r.next:], r.ring[:r.next])
	kin := make([]Kin, len(ids))
	for i, id := range ids {
		kin[i] = r.byID[id]
	}
	return kin
}

func (m *Machine) kin(id string) (Kin, bool) {
	if e := m.ops[id]; e != nil {
		return Kin{OpID: id, Priority: e.op.Priority, Parent: e.op.Parent}, true
	}
	k, ok := m.recent.byID[id]
	return k, ok
}

// lineage is what a walk over the ancestors of an operation found.
type lineage struct {
	effective op.Priority
	inherit   op.Inheritance
	ancestors []string // nearest first, the missing one last
	missing   string   // ancestor that nobody told the machine about
}

// walk goes up from an operation: its effective priority is the maximum of its
// own and that of all its ancestors (contract §3.3). lookup knows them.
func walk(id, parent string, own op.Priority, lookup func(string) (Kin, bool)) lineage {
	w := lineage{effective: own}
	for next := parent; next != ""; {
		if next == id || slices.Contains(w.ancestors, next) {
			w.inherit.Cycle = true
			return w
		}
		if len(w.ancestors) == MaxDepth {
			w.inherit.Truncated = true
			return w
		}
		w.ancestors = append(w.ancestors, next)
		k, ok := lookup(next)
		if !ok {
			w.missing = next
			return w
		}
		if k.Priority > w.effective {
			w.effective, w.inherit.Path = k.Priority, slices.Clone(w.ancestors)
		}
		next = k.Parent
	}
	return w
}

// inherit sets the effective priority of e. Where the walk meets an operation
// nobody told the machine about, e asks for it.
func (m *Machine) inherit(e *entry) {
	m.unwait(e)
	if e.op.Parent == "" {
		e.effective = e.op.Priority
		return
	}
	w := walk(e.op.ID, e.op.Parent, e.op.Priority, m.kin)
	e.effective, e.inherit, e.asking = w.effective, w.inherit, false
	if !slices.Equal(e.ancestors, w.ancestors) {
		m.disinherit(e)
		e.ancestors = w.ancestors
		for _, id := range e.ancestors {
			m.heirs[id] = m.heirs[id].with(e)
		}
	}
	if w.missing != "" {
		m.await(e, w.missing)
	}
	m.severed(e)
}

// disinherit takes e out of the families of its ancestors.
func (m *Machine) disinherit(e *entry) {
	for _, id := range e.ancestors {
		strike(m.heirs, id, e)
	}
	e.ancestors = nil
}

// await registers e for the ancestor that is missing and has it looked for. Once
// it is known to be unknown it stays so, until somebody submits it here.
func (m *Machine) await(e *entry, id string) {
	e.missing = id
	m.waiters[id] = append(m.waiters[id], e)
	e.asking = true
	if !slices.Contains(m.wants, id) {
		m.wants = append(m.wants, id)
	}
}

func (m *Machine) unwait(e *entry) {
	if e.missing == "" {
		return
	}
	w := m.waiters[e.missing]
	if i := slices.Index(w, e); i >= 0 {
		w = slices.Delete(w, i, i+1)
	}
	if len(w) == 0 {
		delete(m.waiters, e.missing)
	} else {
		m.waiters[e.missing] = w
	}
	e.missing = ""
}

// learn takes the answer about an ancestor of another partition.
func (m *Machine) learn(k *Kin) {
	if !k.Unknown {
		if m.ops[k.OpID] == nil {
			m.recent.add(Kin{OpID: k.OpID, Priority: k.Priority, Parent: k.Parent, foreign: true})
		}
		m.adopt(k.OpID)
		return
	}
	for _, e := range m.waiting(k.OpID) {
		// A later child has a right to a later search: its parent may have
		// been submitted between the two.
		if e.asking && e.place.Seq <= k.Upto {
			e.asking = false
			e.inherit.UnknownParent = k.OpID
			m.settled(e)
		}
	}
}

// waiting returns the operations that miss this ancestor in the order of the
// log, so that a restored machine asks in the same order as the one before it.
func (m *Machine) waiting(id string) []*entry {
	w := slices.Clone(m.waiters[id])
	slices.SortFunc(w, byPlace)
	return w
}

// adopt recomputes the staged operations that missed this ancestor. What is too
// much is shed when all of them have their new rank.
func (m *Machine) adopt(id string) {
	var changed []*target
	for _, e := range m.waiting(id) {
		t := m.targets[e.op.Target]
		was := e.asking
		if i := slices.Index(t.staged, e); i >= 0 {
			t.staged = slices.Delete(t.staged, i, i+1)
		}
		m.inherit(e)
		at, _ := slices.BinarySearchFunc(t.staged, e, rank)
		t.staged = slices.Insert(t.staged, at, e)
		if was && !e.asking {
			m.settled(e)
		} else if !was && e.asking {
			t.asking++
		}
		if !slices.Contains(changed, t) {
			changed = append(changed, t)
		}
	}
	for _, t := range changed {
		m.shed(t) // a longer path is more to tell
		if t.executing != nil {
			m.openWindow(t) // one of them may be stronger now
		}
	}
}

// settled notes that e no longer waits for an answer.
func (m *Machine) settled(e *entry) {
	t := m.targets[e.op.Target]
	t.asking--
	m.touch(t)
}
