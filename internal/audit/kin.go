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
	unknown  bool   // looked for everywhere, submitted nowhere
	heard    uint32 // how many were heard of before it
	last     uint32 // and before it was heard of last
}

// rank is the effective priority of an operation and how it came about.
type rank struct {
	effective op.Priority
	old       bool // an ancestor may be forgotten by now, and asked for again
	cycle     bool
	truncated bool
	path      []key
	unknown   key
	trail     []key // the ancestors, nearest first, the unknown one last
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
	if in.Unknown {
		v.lookedFor(k, in.Upto)
	} else {
		heard := p.hear(k)
		p.kin[k] = kin{priority: in.Priority, parent: keyOf(in.Parent), heard: heard, last: p.heard}
		v.appeared(k)
		h := hearsay{key: k, kin: p.kin[k]}
		h.v = Violation{Seq: v.seq, Invariant: ResolutionKin, Partition: p.id, Step: v.s.Number, OpID: in.OpID}
		if !v.a.confirm(&h) && v.a.opts.Bounds.Operations == 0 {
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
		if d, ended := p.done[k]; ended && at.Sub(time.Unix(int64(d.ended), 0)) >= a.opts.RecordsMaxAge {
			continue
		}
		return p
	}
	return nil
}

// lookedFor takes the answer that an ancestor is unknown. It counts for those
// that wait for it and were submitted before the search; for a later child the
// ancestor may have been submitted in between.
func (v *visit) lookedFor(k key, upto uint64) {
	p := v.p
	for _, o := range p.missing[k] {
		if o.place.Seq <= upto && !o.settled {
			o.settled = true
			v.stir(o.target)
		}
	}
	d, ended := p.done[k]
	n, told := p.kin[k]
	if !ended && !told && p.bounds.Operations > 0 {
		return // to know nothing of it says the same
	}
	if p.open[k] == nil && (!ended || d.seq <= upto) {
		p.kin[k] = kin{unknown: true, heard: n.heard, last: max(n.last, d.last)}
	}
}

// appeared ranks those again that missed an ancestor which is known from now on.
// It reports whether there are any.
func (v *visit) appeared(k key) bool {
	missed := v.p.missing[k]
	delete(v.p.missing, k)
	for _, o := range missed {
		o.ranked, o.rank.unknown = false, key{}
		v.p.rankOf(o)
		v.severed(o)
		v.stir(o.target)
	}
	return len(missed) > 0
}

// wait registers a staged operation with the ancestor at which its walk ended.
func (p *partition) wait(o *operation) {
	if k := o.rank.unknown; k != (key{}) && o.slot >= 0 {
		o.missing, o.settled = len(p.missing[k]), false
		p.missing[k] = append(p.missing[k], o)
	}
}

// unwait takes an operation that is about to leave its staging area off again.
func (p *partition) unwait(o *operation) {
	w := p.missing[o.rank.unknown]
	if !o.ranked || o.rank.unknown == (key{}) || o.missing >= len(w) || w[o.missing] != o {
		return
	}
	last := len(w) - 1
	w[o.missing] = w[last]
	w[o.missing].missing = o.missing
	w[last] = nil
	if last == 0 {
		delete(p.missing, o.rank.unknown)
	} else {
		p.missing[o.rank.unknown] = w[:last]
	}
}

// hear counts an operation that ended or that the partition was told about, and
// returns how many were heard of before it was for the first time.
func (p *partition) hear(k key) uint32 {
	p.heard++
	p.remember(k)
	if n, ok := p.kin[k]; ok && n.heard > 0 {
		return n.heard
	}
	if d, ok := p.done[k]; ok {
		return d.heard
	}
	return p.heard
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

// forgets reports whether a partition may have forgotten an operation that it
// knew: it remembers so many, and asks for the others again.
func (p *partition) forgets(k key) bool {
	if p.open[k] != nil {
		return false
	}
	heard := p.done[k].heard
	if n, ok := p.kin[k]; ok {
		heard = n.heard
	}
	return p.heard-heard >= arbiter.RecentOperations
}

// rankOf walks the ancestors of an operation. The walk is done when it is staged
// and stays as it is for as long as it is; one that met an unknown ancestor is
// done again when that ancestor appears.
func (p *partition) rankOf(o *operation) *rank {
	if o.ranked {
		return &o.rank
	}
	r := rank{effective: o.priority}
	for k := o.parent; k != (key{}); {
		if k == o.key || slices.Contains(r.trail, k) {
			r.cycle = true
			break
		}
		if len(r.trail) == maxDepth {
			r.truncated = true
			break
		}
		r.trail = append(r.trail, k)
		priority, parent, ok := p.ancestor(k)
		if !ok {
			r.unknown = k
			break
		}
		r.old = r.old || p.forgets(k)
		if priority > r.effective {
			r.effective, r.path = priority, slices.Clone(r.trail)
		}
		k = parent
	}
	p.disinherit(o)
	o.rank, o.ranked = r, true
	for _, k := range r.trail {
		enlist(p.heirs, k, o)
	}
	p.wait(o)
	return &o.rank
}

// disinherit takes o off the lists of its ancestors.
func (p *partition) disinherit(o *operation) {
	for _, k := range o.rank.trail {
		delist(p.heirs, k, o)
	}
	o.rank.trail = nil
}

// total is the effective priority of a contender, with what its waiting is worth
// at the instant of the step.
func (v *visit) total(o *operation) op.Priority {
	e := v.p.rankOf(o).effective
	if v.p.policy.Aging.Every <= 0 {
		return e
	}
	return min(op.Critical, e+op.Priority(v.boost(o)))
}

func (v *visit) boost(o *operation) int {
	return boostFor(v.p.policy.Aging, v.s.At.Sub(o.accepted), v.p.rankOf(o).effective)
}

// better reports whether a stands before b: contract §3, rules 3, 4 and 6.
func (v *visit) better(a, b *operation) bool {
	x, y := v.total(a), v.total(b)
	return x > y || x == y && a.place.Before(b.place)
}
