package replay

import (
	"slices"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Directory knows every operation of the record as somebody's ancestor: a replay
// may ask for one that the record did not ask for. Several replays may share one,
// not at the same time.
type Directory struct {
	byID map[string]relative
}

type relative struct {
	seq      uint64 // of the intake; 0: the record told it as an answer
	priority op.Priority
	parent   string
}

// NewDirectory returns a directory without operations.
func NewDirectory() *Directory { return &Directory{byID: map[string]relative{}} }

// note takes what a recorded step says of operations.
func (d *Directory) note(s *arbiter.Step) {
	for i := range s.In {
		switch in := &s.In[i]; {
		case in.Submit != nil:
			o := &in.Submit.Operation
			if _, ok := d.byID[o.ID]; !ok {
				d.byID[o.ID] = relative{seq: in.Submit.Seq, priority: o.Priority, parent: o.Parent}
			}
		case in.Kin != nil && !in.Kin.Unknown:
			if _, ok := d.byID[in.Kin.OpID]; !ok {
				d.byID[in.Kin.OpID] = relative{priority: in.Kin.Priority, parent: in.Kin.Parent}
			}
		}
	}
	for i := range s.Out {
		if a := s.Out[i].Accepted; a != nil && a.Asked > 0 {
			r := d.byID[a.OpID]
			r.priority = a.Priority
			d.byID[a.OpID] = r
		}
	}
}

// question is one that a machine has asked: who is this ancestor?
type question struct {
	id   string
	upto uint64 // the intake had been consumed so far: the place of every child that asks is at or before it
}

func questions(ids []string, upto uint64) []question {
	qs := make([]question, len(ids))
	for i, id := range ids {
		qs[i] = question{id: id, upto: upto}
	}
	return qs
}

// answered returns the questions that inputs do not answer. Nobody is known to be
// unknown to a child that came after the search (contract §3.3).
func answered(qs []question, in []arbiter.Input) []question {
	if len(qs) == 0 {
		return qs
	}
	for i := range in {
		if k := in[i].Kin; k != nil {
			qs = slices.DeleteFunc(qs, func(q question) bool { return q.id == k.OpID && (!k.Unknown || q.upto <= k.Upto) })
		}
	}
	return qs
}

// answer is what a search for q would have found.
func (d *Directory) answer(q question) arbiter.Input {
	if r, ok := d.byID[q.id]; ok && r.seq <= q.upto {
		return arbiter.Input{Kin: &arbiter.Kin{OpID: q.id, Priority: r.priority, Parent: r.parent}}
	}
	return arbiter.Input{Kin: &arbiter.Kin{OpID: q.id, Unknown: true, Upto: q.upto}}
}
