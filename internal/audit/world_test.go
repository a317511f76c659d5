package audit_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const (
	worldPartitions = 3
	worldTargets    = 5
)

// world drives the real machine of each partition through a random life, in the
// way of resolvers, and keeps the journal and the records. One seed is one life.
type world struct {
	rng      *rand.Rand
	now      time.Time
	intake   uint64
	machines []*arbiter.Machine
	last     []arbiter.Step
	wants    [][]string
	follows  [][]arbiter.Submit      // asked for and not submitted yet
	cut      [][]string              // cancelled elsewhere with their descendants, and not told yet
	known    map[string]op.Operation // by id, as submitted
	ids      []string
	running  []map[string]arbiter.Granted // by partition and target
	heads    map[string]*entity.Entity
	records  map[string]*op.Record
	journal  [][]byte
	where    []int // partition by journal index
}

func newWorld(seed uint64) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 1)), now: epoch, known: map[string]op.Operation{},
		heads: map[string]*entity.Entity{}, records: map[string]*op.Record{},
	}
	for p := range worldPartitions {
		w.machines = append(w.machines, arbiter.New(p))
		w.last = append(w.last, arbiter.Step{Partition: p, At: epoch})
		w.wants, w.follows, w.cut = append(w.wants, nil), append(w.follows, nil), append(w.cut, nil)
		w.running = append(w.running, map[string]arbiter.Granted{})
		w.takeover(p)
		w.commit(p, w.policy(0))
	}
	return w
}

func worldPartition(target string) int { return int(target[1]-'0') % worldPartitions }

func (w *world) one(n int) bool { return w.rng.IntN(n) == 0 }

func (w *world) millis(n int) time.Duration { return time.Duration(w.rng.IntN(n)) * time.Millisecond }

// commit lets the machine of a partition take one step.
func (w *world) commit(p int, in ...arbiter.Input) {
	s := w.last[p]
	s.Schema, s.ID, s.Number, s.Takeover = arbiter.StepSchema, fmt.Sprintf("%016x%016x", w.rng.Uint64(), w.rng.Uint64()), s.Number+1, false
	s.At, s.In, s.Out, s.Cursor = w.now, in, nil, w.intake
	w.append(&s)
}

func (w *world) takeover(p int) {
	s := w.last[p]
	s.Schema, s.ID, s.Number, s.Takeover = arbiter.StepSchema, fmt.Sprintf("t%d-%d", p, s.Number+1), s.Number+1, true
	s.Epoch, s.Owner, s.In, s.Out = s.Epoch+1, fmt.Sprint("r", w.rng.IntN(9)), nil, nil
	w.append(&s)
}

func (w *world) append(s *arbiter.Step) {
	w.machines[s.Partition].Step(s)
	data, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	w.journal, w.where = append(w.journal, data), append(w.where, s.Partition)
	for i := range s.Out {
		w.observe(s, &s.Out[i])
	}
	for i := range s.Out {
		w.record(s, changed(&s.Out[i]))
	}
	w.wants[s.Partition] = append(w.wants[s.Partition], w.machines[s.Partition].Wants()...)
	w.last[s.Partition] = *s
}

// changed is the operation whose record an effect changes.
func changed(e *arbiter.Effect) string {
	switch {
	case e.Accepted != nil:
		return e.Accepted.OpID
	case e.Granted != nil:
		return e.Granted.OpID
	case e.Succeeded != nil:
		return e.Succeeded.OpID
	case e.Failed != nil:
		return e.Failed.OpID
	case e.Retry != nil:
		return e.Retry.OpID
	case e.Lapsed != nil:
		return e.Lapsed.OpID
	case e.Rejected != nil:
		return e.Rejected.OpID
	case e.Cancelled != nil:
		return e.Cancelled.OpID
	case e.Preempted != nil:
		return e.Preempted.OpID
	case e.Protected != nil && e.Protected.Cancel:
		return e.Protected.OpID
	case e.Coalesced != nil:
		return e.Coalesced.OpID
	case e.Shared != nil:
		return e.Shared.OpID
	case e.Parted != nil:
		return e.Parted.OpID
	}
	return ""
}

// record keeps the record of an operation as it is after a step.
func (w *world) record(s *arbiter.Step, id string) {
	v, ok := w.machines[s.Partition].Describe(id)
	if !ok {
		return
	}
	r := &op.Record{
		OpID: id, Status: v.Status, Reason: v.Reason, Priority: v.Operation.Priority, Asked: v.Asked, Winner: v.Winner,
		Attempt: v.Attempt, RetryCount: v.Retries, Preemptions: v.Preemptions, RetryOf: v.Operation.RetryOf,
		Error: v.Failure, CancelAt: v.CancelAt, RetryAfterMS: v.RetryAfter.Milliseconds(), Partition: s.Partition, Step: s.Number,
	}
	if v.Status == op.Pending && v.Due.After(s.At) {
		r.RetryAt = &v.Due
	}
	w.records[id] = r
}

func (w *world) observe(s *arbiter.Step, e *arbiter.Effect) {
	running := w.running[s.Partition]
	switch {
	case e.Granted != nil:
		running[e.Granted.Target] = *e.Granted
	case e.Failed != nil:
		delete(running, e.Failed.Target)
	case e.Lapsed != nil:
		delete(running, e.Lapsed.Target)
	case e.Preempted != nil:
		delete(running, e.Preempted.Target)
	case e.Cancelled != nil:
		if e.Cancelled.From == op.Executing {
			delete(running, e.Cancelled.Target)
		}
		for p := range w.cut {
			if e.Cancelled.Cascade && p != s.Partition {
				w.cut[p] = append(w.cut[p], e.Cancelled.OpID)
			}
		}
	case e.Succeeded != nil:
		delete(running, e.Succeeded.Target)
		w.change(s, e.Succeeded)
	}
}

// change folds the entity and asks for the follow-ups.
func (w *world) change(s *arbiter.Step, e *arbiter.Succeeded) {
	var c entity.Change
	if err := json.Unmarshal(s.In[e.Input].Result.Change, &c); err != nil {
		panic(err)
	}
	after, err := entity.Apply(w.heads[e.Target], &c, e.OpID, s.At)
	if err != nil {
		panic(err)
	}
	w.heads[e.Target] = after
	for _, f := range c.Follow {
		o := w.operation(f.Target)
		o.Type, o.Priority, o.Deadline, o.OnConflict, o.Submitter = op.TypeFollowUp, op.Critical, nil, op.OnConflictQueue, ""
		w.ids, w.known[o.ID] = append(w.ids, o.ID), o
		p := worldPartition(f.Target)
		w.follows[p] = append(w.follows[p], arbiter.Submit{Operation: o, CausedBy: e.OpID})
	}
}

// life leads a life of so many moments, up to where nothing new comes.
func life(seed uint64, moments int) *world {
	w := newWorld(seed)
	for n := range moments {
		w.live(n)
	}
	return w
}

// live is one moment of one partition.
func (w *world) live(n int) {
	p := w.rng.IntN(worldPartitions)
	near := 30 * time.Millisecond
	if w.one(4) {
		near = time.Second
	}
	if next, ok := w.machines[p].Next(); ok && w.one(2) && next.After(w.now) && next.Sub(w.now) < near {
		w.now = next
	} else {
		w.now = w.now.Add(w.millis(15))
	}
	var in, answers []arbiter.Input
	if w.one(2) {
		answers = w.answers(p) // which were looked for before what comes now
	}
	if w.one(2) {
		in = append(in, w.submissions(p)...)
	}
	if w.one(5) {
		in = append(in, w.cancels(p)...)
	}
	if w.one(2) {
		in = append(in, w.followUps(p)...)
	}
	if w.one(3) {
		in = append(in, w.cascades(p)...)
	}
	if w.one(2) {
		in = w.mix(in, w.reports(p))
	}
	in = w.mix(in, answers)
	if w.one(25) {
		in = w.mix(in, []arbiter.Input{w.policy(uint64(n + 1))})
	}
	if w.one(40) {
		w.takeover(p)
	}
	w.commit(p, in...)
}

// mix puts more inputs between those that came through the intake, in whose order
// nothing changes.
func (w *world) mix(in, more []arbiter.Input) []arbiter.Input {
	for _, x := range more {
		in = slices.Insert(in, w.rng.IntN(len(in)+1), x)
	}
	return in
}

// drain lets everything come to its end. Nothing is paused any more.
func (w *world) drain() {
	for p := range w.machines {
		in := w.policy(1_000_000)
		in.Policy.Paused = arbiter.Paused{}
		w.commit(p, in)
	}
	for range 10_000 {
		open := 0
		w.now = w.now.Add(10 * time.Millisecond)
		for p, m := range w.machines {
			if left := m.Open() + len(w.follows[p]) + len(w.cut[p]); left > 0 {
				open += left
				w.commit(p, slices.Concat(w.answers(p), w.followUps(p), w.cascades(p), w.reports(p))...)
			}
		}
		if open == 0 {
			return
		}
	}
	panic("the world does not come to rest")
}

// audit reads the journal; change may alter a step first, or take it out by
// returning false.
func (w *world) audit(opts audit.Options, change func(i int, s *arbiter.Step) bool) *audit.Auditor {
	opts.PartitionOf, opts.Partitions = worldPartition, worldPartitions
	a := audit.New(opts)
	for i, data := range w.journal {
		if change != nil {
			var s arbiter.Step
			if err := json.Unmarshal(data, &s); err != nil {
				panic(err)
			}
			if !change(i, &s) {
				continue
			}
			data, _ = json.Marshal(&s)
		}
		a.Raw(uint64(i+1), w.where[i], data)
	}
	return a
}
