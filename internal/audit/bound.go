package audit

import "github.com/hierarchy-bus/hierarchy/internal/entity"

// Bounds keep an auditor's memory within limits, so that it can follow a system
// for ever. What is forgotten is judged no longer, and never wrongly: an operation
// that ended long ago is as unknown as one that never was, so nothing is said about
// who names it, and an entity that was forgotten is folded no more. Open operations
// are never forgotten.
type Bounds struct {
	// Operations is how many ended operations and answers about ancestors are
	// remembered a partition; 0: all. It has to be well above
	// [arbiter.RecentOperations], which a partition itself remembers.
	Operations int
	// Entities is how many entities and other targets are followed a partition;
	// 0: all.
	Entities int
}

// memory is what a partition remembers by its own choice, in the order in which
// it heard of it.
type memory struct {
	heard  []heardOf // a queue, from next on
	next   int
	lost   bool // something is forgotten
	stamps uint64
	kept   []keptTarget // a queue, from front on
	front  int
	gone   bool // a target is forgotten
}

type heardOf struct {
	k    key
	last uint32 // [partition.heard] at that time
}

type keptTarget struct {
	t     *target
	stamp uint64
}

// remember notes that an operation ended or was told about, and forgets the one of
// which nothing was heard for longest.
func (p *partition) remember(k key) {
	most := p.bounds.Operations
	if most == 0 {
		return
	}
	m := &p.memory
	m.heard = append(m.heard, heardOf{k, p.heard})
	for len(m.heard)-m.next > most {
		old := m.heard[m.next]
		m.next++
		if d, ok := p.done[old.k]; ok && d.last == old.last { // nothing was heard of it since
			delete(p.done, old.k)
			m.lost = true
		}
		if n, ok := p.kin[old.k]; ok && n.last == old.last {
			delete(p.kin, old.k)
			m.lost = true
		}
	}
	if m.next > most/4 {
		m.heard = append(m.heard[:0], m.heard[m.next:]...)
		m.next = 0
	}
}

// keep notes that a target is in use.
func (p *partition) keep(t *target) {
	if p.bounds.Entities == 0 {
		return
	}
	m := &p.memory
	m.stamps++
	t.stamp = m.stamps
	m.kept = append(m.kept, keptTarget{t, m.stamps})
}

// forget lets go of the targets that were not used for longest and on which
// nothing is open. It is called between two steps.
func (p *partition) forget() {
	most := p.bounds.Entities
	if most == 0 {
		return
	}
	m := &p.memory
	for looked := 0; len(p.targets) > most && m.front < len(m.kept) && looked < 64; looked++ {
		x := m.kept[m.front]
		m.kept[m.front] = keptTarget{}
		m.front++
		switch {
		case x.stamp != x.t.stamp: // it was used again
		case x.t.open > 0 || x.t.touched:
			p.keep(x.t)
		default:
			delete(p.targets, x.t.id)
			m.gone = true
		}
	}
	if m.front > most || len(m.kept)-m.front > 4*most+1024 {
		left := m.kept[:0]
		for _, x := range m.kept[m.front:] {
			if x.stamp == x.t.stamp {
				left = append(left, x)
			}
		}
		clear(m.kept[len(left):])
		m.kept, m.front = left, 0
	}
}

// forgotten reports whether any partition has let go of operations.
func (a *Auditor) forgotten() bool {
	for _, p := range a.order {
		if p.memory.lost {
			return true
		}
	}
	return false
}

// abandoned reports whether any partition has let go of entities.
func (a *Auditor) abandoned() bool {
	for _, p := range a.order {
		if p.memory.gone {
			return true
		}
	}
	return false
}

// unknown reports whether a change is for an entity that was forgotten, of which
// nothing more is said.
func (v *visit) unknown(t *target, c *entity.Change) bool {
	if t.head != nil || c.Base == 0 || !v.p.memory.gone {
		return false
	}
	t.tainted = true
	return true
}

// ring remembers the last keys, each with a value.
type ring[V any] struct {
	of   map[key]V
	keys []key // in turn, where there is a bound
	next int
}

// add remembers a key and forgets the oldest of more than most; 0: none. It
// reports false if the key is known.
func (r *ring[V]) add(k key, x V, most int) bool {
	if _, known := r.of[k]; known {
		return false
	}
	if r.of == nil {
		r.of = map[key]V{}
	}
	r.of[k] = x
	switch {
	case most == 0:
	case len(r.keys) < most:
		r.keys = append(r.keys, k)
	default:
		delete(r.of, r.keys[r.next])
		r.keys[r.next] = k
		r.next = (r.next + 1) % most
	}
	return true
}
