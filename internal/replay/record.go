package replay

import (
	"fmt"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// record is what the journal says, as far as it is read.
type record struct {
	machine *arbiter.Machine // lives through the record again
	number  uint64
	now     time.Time
	ledger  *ledger
	past    map[string][]*precedent // by operation, in the order of their grants
	asked   []question              // not answered yet

	took map[string]*median // by type: how long attempts took
}

func newRecord(partition int) *record {
	return &record{
		machine: arbiter.New(partition), ledger: newLedger(), past: map[string][]*precedent{},
		took: map[string]*median{},
	}
}

// step is a recorded step without its effects, and what the replay has to know
// of them.
type step struct {
	arbiter.Step
	due     time.Time    // when the next thing would happen by itself; zero: nothing
	refused []int        // inputs from which nothing followed
	backlog bool         // something was left over to the next step
	asked   []string     // ancestors that were missed in this step
	ended   []*precedent // attempts that ended in this step
}

// ending says how an attempt of the record ended.
type ending int

const (
	open     ending = iota // not in the record
	reported               // its executor reported a result
	silent                 // its lease ran out
	stopped                // it was preempted or cancelled: nobody knows what would have become of it
)

// precedent is an attempt of the record.
type precedent struct {
	opID    string
	opType  string
	number  int // of the attempt
	step    uint64
	at      time.Time // of the grant
	lease   time.Duration
	beaten  bool // its executor gave a sign of life
	end     ending
	endStep uint64
	endAt   time.Time
	failure *op.Failure
	late    bool // stopped, but reported a success all the same
	used    bool // the replay had its outcome
}

// took is how long the operation was EXECUTING.
func (p *precedent) took() time.Duration { return p.endAt.Sub(p.at) }

// tells reports whether the precedent says what an executor does.
func (p *precedent) tells() bool { return p.end == reported || p.end == silent }

// read takes the next step. Its effects must be what its inputs lead to, else the
// replay would compare two releases and not two policies.
func (r *record) read(s *arbiter.Step) (step, error) {
	if err := r.machine.Replay(s); err != nil {
		return step{}, fmt.Errorf("replay: the record cannot be reproduced: %w", err)
	}
	r.number, r.now = s.Number, s.At
	read := step{Step: *s, backlog: r.machine.Backlog(), asked: r.machine.Wants()}
	read.In, read.Out = slices.Clone(s.In), nil
	if at, ok := r.machine.Next(); ok {
		read.due = at
	}
	r.ledger.submitted(s)
	r.ledger.see(was, s.Out, s.At)
	for i := range s.Out {
		r.effect(s, &s.Out[i], &read)
	}
	for i := range read.In {
		if res := read.In[i].Result; res != nil {
			bare := *res
			bare.Change = nil // it is nothing to the machine, and most of the journal
			read.In[i].Result = &bare
		}
	}
	r.asked = answered(r.asked, s.In)
	r.asked = append(r.asked, questions(read.asked, s.Cursor)...)
	return read, nil
}

// effect notes what became of attempts.
func (r *record) effect(s *arbiter.Step, e *arbiter.Effect, read *step) {
	end := func(id string, how ending) *precedent {
		p := r.current(id)
		p.end, p.endStep, p.endAt = how, s.Number, s.At
		read.ended = append(read.ended, p)
		return p
	}
	switch {
	case e.Granted != nil:
		g := e.Granted
		r.past[g.OpID] = append(r.past[g.OpID], &precedent{
			opID: g.OpID, opType: r.ledger.typeOf(g.OpID), number: g.Attempt, step: s.Number, at: s.At, lease: g.LeaseEnds.Sub(s.At),
		})
	case e.Extended != nil:
		r.current(e.Extended.OpID).beaten = true
	case e.Succeeded != nil:
		end(e.Succeeded.OpID, reported)
	case e.Failed != nil:
		end(e.Failed.OpID, reported).failure = e.Failed.Failure
	case e.Lapsed != nil:
		end(e.Lapsed.OpID, silent)
	case e.Preempted != nil:
		end(e.Preempted.OpID, stopped)
	case e.Cancelled != nil && e.Cancelled.From == op.Executing:
		end(e.Cancelled.OpID, stopped)
	case e.Refused != nil:
		read.refused = append(read.refused, e.Refused.Input)
		r.refused(s.In[e.Refused.Input].Result)
	case e.Repeated != nil:
		known(read.In, e.Repeated.Place)
	}
}

// refused notes the success of an attempt that had been stopped before. A failure
// says nothing: the executor may have been told to stop.
func (r *record) refused(res *arbiter.Result) {
	if res == nil || res.Failure != nil {
		return
	}
	for _, p := range r.past[res.OpID] {
		if p.number == res.Attempt && p.end == stopped {
			p.late = true
		}
	}
}

// known marks a repeated submission as one, so that it is one in the replay, too,
// whatever the machine there still remembers.
func known(in []arbiter.Input, place op.Place) {
	for i := range in {
		if s := in[i].Submit; s != nil && s.Place == place {
			again := *s
			again.Known = true
			in[i].Submit = &again
		}
	}
}

// current returns the attempt that was granted last.
func (r *record) current(id string) *precedent {
	all := r.past[id]
	return all[len(all)-1]
}

// pass notes how long the attempts took that ended in a step.
func (r *record) pass(s *step) {
	for _, p := range s.ended {
		if p.end == reported {
			if r.took[p.opType] == nil {
				r.took[p.opType] = &median{}
			}
			r.took[p.opType].add(p.took())
		}
	}
}

// forgetEnded drops what has ended. What else has been is behind the replay.
func (r *record) forgetEnded() {
	for _, id := range r.ledger.forgetEnded() {
		delete(r.past, id)
	}
	for _, l := range r.ledger.order {
		for _, p := range r.past[l.id] {
			p.used = p.end != open
		}
	}
}

// typical is how long an attempt of an operation takes when nothing else is
// known: as long as its last one that reported, else as those of its type, and
// never less than one of them was seen under way.
func (r *record) typical(id, opType string) time.Duration {
	least := time.Duration(0)
	for _, p := range slices.Backward(r.past[id]) {
		switch p.end {
		case reported:
			return max(least, p.took())
		case open, stopped:
			least = max(least, r.until(p).Sub(p.at))
		case silent: // nobody knows how much of it
		}
	}
	if m := r.took[opType]; m != nil {
		return max(least, m.value())
	}
	return max(least, time.Millisecond)
}

// next returns the first attempt whose outcome the replay has not had, and its
// place among those of the operation.
func (r *record) next(id string) (int, *precedent) {
	for i, p := range r.past[id] {
		if !p.used && p.tells() {
			return i, p
		}
	}
	return -1, nil
}

// until is how long an attempt was under way in the record.
func (r *record) until(p *precedent) time.Time {
	if p.end == open {
		return r.now
	}
	return p.endAt
}

// at returns the attempt that was granted in a step.
func (r *record) at(id string, number uint64) (int, *precedent) {
	for i, p := range r.past[id] {
		if p.step == number {
			return i, p
		}
	}
	return -1, nil
}
