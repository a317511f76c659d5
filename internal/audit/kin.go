package audit

import (
	"fmt"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// maxDepth is the depth limit of contract §3.3, stated here once more on
// purpose: the auditor does not take it from the code that it audits.
const maxDepth = 32

// kin is what a partition was told about an ancestor of another one.
type kin struct {
	priority op.Priority
	parent   key
	unknown  bool // looked for everywhere, submitted nowhere
}

// rank is the effective priority of an operation and how it came about.
type rank struct {
	effective op.Priority
	path      []key
	unknown   key
	cycle     bool
	truncated bool
	gen       uint64
}

// hearsay is an answer about an ancestor that no step has submitted yet.
type hearsay struct {
	v   Violation
	key key
	kin kin
}

// learn takes a recorded answer about an ancestor.
func (v *visit) learn(in *arbiter.Kin) {
	p, k := v.p, keyOf(in.OpID)
	p.kin[k] = kin{priority: in.Priority, parent: keyOf(in.Parent), unknown: in.Unknown}
	if !in.Unknown {
		p.appeared(k)
		h := hearsay{key: k, kin: p.kin[k]}
		h.v = Violation{Seq: v.seq, Invariant: ResolutionKin, Partition: p.id, Step: v.s.Number, OpID: in.OpID}
		if !v.a.confirm(&h) {
			v.a.hearsay = append(v.a.hearsay, h)
		}
	}
}

// confirm compares an answer about an ancestor with what was submitted under its
// id, in whichever partition. It reports false when nothing was.
func (a *Auditor) confirm(h *hearsay) bool {
	found := false
	for _, p := range a.order {
		priority, parent, _, ok := p.submission(h.key)
		if ok && priority == h.kin.priority && parent == h.kin.parent {
			return true
		}
		found = found || ok
	}
	if found {
		h.v.Text = fmt.Sprintf("the answer says priority %d, which is not what was submitted, or another parent", h.kin.priority)
		a.violate(h.v)
	}
	return found
}

// hearsayLeft reports the answers for which no submission ever came.
func (a *Auditor) hearsayLeft() {
	for i := range a.hearsay {
		if h := &a.hearsay[i]; !a.confirm(h) {
			h.v.Text = "the answer is about an operation that no partition ever took in"
			a.violate(h.v)
		}
	}
	a.hearsay = nil
}

// submission returns priority, parent and intake sequence of an operation that
// this partition took in.
func (p *partition) submission(k key) (priority op.Priority, parent key, seq uint64, ok bool) {
	if o := p.open[k]; o != nil {
		return o.priority, o.parent, o.place.Seq, true
	}
	d, ok := p.done[k]
	return op.Priority(d.priority), d.parent, d.seq, ok
}

// submittedBefore returns the partition that took an operation in from before
// the place, unless its record may have aged out since.
func (a *Auditor) submittedBefore(k key, place op.Place, at time.Time) *partition {
	for _, p := range a.order {
		_, _, seq, ok := p.submission(k)
		if !ok || seq >= place.Seq {
			continue
		}
		if d, ended := p.done[k]; ended && at.Sub(time.Unix(0, d.ended)) >= a.opts.RecordsMaxAge {
			continue
		}
		return p
	}
	return nil
}

// appeared notes that an ancestor is known from now on.
func (p *partition) appeared(k key) {
	if _, ok := p.missing[k]; ok {
		delete(p.missing, k)
		p.gen++
	}
}

// ancestor returns priority and parent of an operation on record. An answer that
// nobody submitted it outweighs an operation that ended long ago: partitions
// forget those, and records age out.
func (p *partition) ancestor(k key) (op.Priority, key, bool) {
	if o := p.open[k]; o != nil {
		return o.priority, o.parent, true
	}
	if n, ok := p.kin[k]; ok {
		return n.priority, n.parent, !n.unknown
	}
	if d, ok := p.done[k]; ok {
		return op.Priority(d.priority), d.parent, true
	}
	return 0, key{}, false
}

// rankOf walks the ancestors of a staged operation. A walk that came to its end
// stays as it is for as long as the operation is staged; one that met an unknown
// ancestor is done again when that ancestor appears.
func (p *partition) rankOf(o *operation) *rank {
	if o.ranked && (o.rank.unknown == key{} || o.rank.gen == p.gen) {
		return &o.rank
	}
	r := rank{effective: o.priority, gen: p.gen}
	trail := []key{o.key}
	for k := o.parent; k != (key{}); {
		if slices.Contains(trail, k) {
			r.cycle = true
			break
		}
		if len(trail) > maxDepth {
			r.truncated = true
			break
		}
		priority, parent, ok := p.ancestor(k)
		if !ok {
			r.unknown = k
			p.missing[k] = struct{}{}
			break
		}
		trail = append(trail, k)
		if priority > r.effective {
			r.effective, r.path = priority, slices.Clone(trail[1:])
		}
		k = parent
	}
	o.rank, o.ranked = r, true
	return &o.rank
}

// lookedFor reports whether an answer about a missing ancestor is on record.
func (p *partition) lookedFor(k key) bool { return p.kin[k].unknown }

// better reports whether a stands before b: contract §3, rules 3 and 4.
func (p *partition) better(a, b *operation) bool {
	x, y := p.rankOf(a).effective, p.rankOf(b).effective
	return x > y || x == y && a.place.Before(b.place)
}
