package audit_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const (
	worldPartitions = 3
	worldTargets    = 7
)

// world drives the real machine of each partition through a random life and
// keeps the journal. One seed is one life.
type world struct {
	rng      *rand.Rand
	now      time.Time
	intake   uint64
	machines []*arbiter.Machine
	last     []arbiter.Step
	wants    [][]string
	follows  [][]arbiter.Submit      // asked for and not submitted yet
	known    map[string]op.Operation // by id, as submitted
	ids      []string
	running  []map[string]arbiter.Granted // by partition and target
	heads    map[string]*entity.Entity
	journal  [][]byte
	where    []int // partition by journal index
}

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), now: epoch, known: map[string]op.Operation{}, heads: map[string]*entity.Entity{}}
	for p := range worldPartitions {
		w.machines = append(w.machines, arbiter.New(p))
		w.last = append(w.last, arbiter.Step{Partition: p, At: epoch})
		w.wants, w.follows = append(w.wants, nil), append(w.follows, nil)
		w.running = append(w.running, map[string]arbiter.Granted{})
		w.takeover(p)
	}
	return w
}

func worldPartition(target string) int { return int(target[1]-'0') % worldPartitions }

func (w *world) one(n int) bool { return w.rng.IntN(n) == 0 }

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
	w.wants[s.Partition] = append(w.wants[s.Partition], w.machines[s.Partition].Wants()...)
	w.last[s.Partition] = *s
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
	case e.Succeeded != nil:
		delete(running, e.Succeeded.Target)
		var c entity.Change
		if err := json.Unmarshal(s.In[e.Succeeded.Input].Result.Change, &c); err != nil {
			panic(err)
		}
		after, err := entity.Apply(w.heads[e.Succeeded.Target], &c, e.Succeeded.OpID, s.At)
		if err != nil {
			panic(err)
		}
		w.heads[e.Succeeded.Target] = after
		for _, f := range c.Follow {
			o := w.operation(f.Target)
			o.Type, o.Priority, o.Deadline, o.OnConflict = op.TypeFollowUp, op.Critical, nil, op.OnConflictQueue
			w.ids, w.known[o.ID] = append(w.ids, o.ID), o
			p := worldPartition(f.Target)
			w.follows[p] = append(w.follows[p], arbiter.Submit{Operation: o, CausedBy: e.Succeeded.OpID})
		}
	}
}

func (w *world) target() string { return fmt.Sprint("e", w.rng.IntN(worldTargets)) }

func (w *world) anyID() string {
	if len(w.ids) == 0 || w.one(6) {
		return fmt.Sprint("o", w.rng.IntN(400)) // of the future, or of nobody
	}
	return w.ids[w.rng.IntN(len(w.ids))]
}

func (w *world) operation(target string) op.Operation {
	retries := w.rng.IntN(4)
	o := op.Operation{
		ID: fmt.Sprint("o", len(w.ids)), Type: op.TypeComplexUpdate, Target: target, Priority: op.Priority(1 + w.rng.IntN(10)), MaxRetries: &retries,
		OnConflict: []op.Conflict{op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry}[w.rng.IntN(3)],
	}
	if w.one(2) {
		o.Type = op.TypeModifyField
	}
	if w.one(3) {
		o.Parent = w.anyID()
	}
	if w.one(6) {
		o.Deadline = &op.Deadline{After: time.Duration(1+w.rng.IntN(400)) * time.Millisecond}
	}
	return o
}

// submissions are some operations on one partition's targets, now and then one
// that was submitted before.
func (w *world) submissions(p int) []arbiter.Input {
	var in []arbiter.Input
	w.intake++
	for i := range 1 + w.rng.IntN(4) {
		target := w.target()
		if worldPartition(target) != p {
			continue
		}
		o := w.operation(target)
		if old, ok := w.known[w.anyID()]; ok && w.one(8) && worldPartition(old.Target) == p && old.Type != op.TypeFollowUp {
			o = old
		} else {
			w.known[o.ID] = o
			w.ids = append(w.ids, o.ID)
		}
		in = append(in, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: w.intake, Index: i}, Operation: o}})
	}
	return in
}

// followUps submits what changes asked for.
func (w *world) followUps(p int) []arbiter.Input {
	var in []arbiter.Input
	for _, s := range w.follows[p] {
		w.intake++
		s.Place = op.Place{Seq: w.intake}
		in = append(in, arbiter.Input{Submit: &s})
	}
	w.follows[p] = nil
	return in
}

// results answer for what runs in a partition, and for what ran before.
func (w *world) results(p int) []arbiter.Input {
	var in []arbiter.Input
	for i := range worldTargets {
		target := fmt.Sprint("e", i)
		g, ok := w.running[p][target]
		if !ok || w.one(3) {
			continue
		}
		r := &arbiter.Result{OpID: g.OpID, Target: target, Attempt: g.Attempt, Executor: "x", Duration: time.Millisecond}
		if w.one(6) {
			r.Attempt-- // a zombie
		}
		if w.one(3) {
			r.Failure = &op.Failure{Message: "no", Terminal: w.one(4)}
		} else {
			r.Change = w.change(target)
		}
		in = append(in, arbiter.Input{Result: r})
	}
	return in
}

func (w *world) change(target string) json.RawMessage {
	c := entity.Change{Kind: entity.Created, ID: target}
	if h := w.heads[target]; h != nil {
		c = entity.Change{Kind: entity.Modified, Base: h.Revision, From: h.Version, Version: w.one(2)}
	}
	if w.one(6) {
		c.Follow = []entity.FollowUp{{Target: w.target()}}
	}
	c.Set = map[string]json.RawMessage{"n": json.RawMessage(fmt.Sprint(w.rng.IntN(99)))}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return b
}

// answers tell a partition about the ancestors it asked for.
func (w *world) answers(p int) []arbiter.Input {
	var in []arbiter.Input
	var again []string // the search did not reach the end of the log
	for _, id := range w.wants[p] {
		k := &arbiter.Kin{OpID: id, Unknown: true, Upto: w.intake - uint64(w.rng.IntN(3))}
		if o, ok := w.known[id]; ok {
			k = &arbiter.Kin{OpID: id, Priority: o.Priority, Parent: o.Parent}
		} else if k.Upto < w.intake {
			again = append(again, id)
		}
		in = append(in, arbiter.Input{Kin: k})
	}
	w.wants[p] = again
	return in
}

func (w *world) policy(revision uint64) arbiter.Input {
	p := arbiter.DefaultPolicy()
	p.Revision = revision
	p.StagingWindow = time.Duration(w.rng.IntN(20)) * time.Millisecond
	p.WindowByType = map[string]time.Duration{op.TypeModifyField: time.Duration(w.rng.IntN(9)) * time.Millisecond}
	if w.one(2) {
		p.WindowByPrefix = map[string]time.Duration{"e1": 0, "e": 3 * time.Millisecond}
	}
	p.MaxStaged, p.MaxExecuting = 1+w.rng.IntN(5), 1+w.rng.IntN(3)
	p.AttemptTimeout = time.Duration(20+w.rng.IntN(200)) * time.Millisecond
	p.MaxOperationAge = time.Duration(1+w.rng.IntN(3)) * time.Second
	return arbiter.Input{Policy: &p}
}

// live is one moment of one partition.
func (w *world) live(n int) {
	p := w.rng.IntN(worldPartitions)
	if next, ok := w.machines[p].Next(); ok && w.one(2) && next.After(w.now) && next.Sub(w.now) < time.Second {
		w.now = next
	} else {
		w.now = w.now.Add(time.Duration(w.rng.IntN(15)) * time.Millisecond)
	}
	var in []arbiter.Input
	if w.one(2) {
		in = append(in, w.submissions(p)...)
		in = append(in, w.followUps(p)...)
	}
	if w.one(2) {
		in = append(in, w.results(p)...)
	}
	if w.one(2) {
		in = append(in, w.answers(p)...)
	}
	if w.one(10) && len(w.ids) > 0 {
		w.intake++
		id := w.ids[w.rng.IntN(len(w.ids))]
		if target := w.known[id].Target; worldPartition(target) == p {
			in = append(in, arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: w.intake}, Target: target, OpID: id}})
		}
	}
	if w.one(25) {
		in = append(in, w.policy(uint64(n+1)))
	}
	if w.one(40) {
		w.takeover(p)
	}
	w.commit(p, in...)
}

// drain lets everything come to its end.
func (w *world) drain() {
	for range 10_000 {
		open := 0
		w.now = w.now.Add(10 * time.Millisecond)
		for p, m := range w.machines {
			if left := m.Open() + len(w.follows[p]); left > 0 {
				open += left
				w.commit(p, slices.Concat(w.followUps(p), w.answers(p), w.results(p))...)
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
	opts.PartitionOf = worldPartition
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

func life(seed uint64, moments int) *world {
	w := newWorld(seed)
	for n := range moments {
		w.live(n)
	}
	w.drain()
	return w
}

// What the real machine does breaks no invariant, whatever happens to it.
func TestMachineBreaksNoInvariant(t *testing.T) {
	var sum audit.Report
	for seed := range lives {
		w := life(seed, 250)
		replicas := make([]*arbiter.Machine, worldPartitions)
		for p := range replicas {
			replicas[p] = arbiter.New(p)
		}
		a := w.audit(audit.Options{Replay: func(s *arbiter.Step) error { return replicas[s.Partition].Replay(s) }}, nil)
		for id, e := range w.heads {
			b, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			a.CheckHead(id, b)
		}
		r := a.Finish(true)
		if !r.OK() {
			for _, v := range r.Violations[:min(len(r.Violations), 12)] {
				t.Log(v)
			}
			t.Fatalf("seed %d: %d violations: %v", seed, r.Total, r.ByInvariant)
		}
		if r.Succeeded < 20 || r.Rejected < 20 {
			t.Fatalf("seed %d: too little happened: %+v", seed, r)
		}
		sum.Lapsed, sum.Retries, sum.Refused = sum.Lapsed+r.Lapsed, sum.Retries+r.Retries, sum.Refused+r.Refused
		sum.Repeated, sum.Cancelled = sum.Repeated+r.Repeated, sum.Cancelled+r.Cancelled
	}
	if min(sum.Lapsed, sum.Retries, sum.Refused, sum.Repeated, sum.Cancelled) < int(lives) {
		t.Errorf("too little happened: %+v", sum)
	}
}

// No effect of a real history can be taken out, nor be told twice, without an
// invariant that breaks.
func TestNoEffectCanBeLostOrTold(t *testing.T) {
	for seed := range lives / 15 {
		w := life(100+seed, 40)
		for i := range w.journal {
			for _, told := range []int{0, 2} {
				var kind string
				r := w.audit(audit.Options{}, func(n int, s *arbiter.Step) bool {
					if n == i && len(s.Out) > 0 {
						k := int(seed) % len(s.Out)
						b, _ := json.Marshal(s.Out[k])
						kind = string(b)
						s.Out = slices.Replace(s.Out, k, k+1, slices.Repeat(s.Out[k:k+1], told)...)
					}
					return true
				}).Finish(true)
				if r.OK() && kind != "" {
					t.Errorf("seed %d, step %d: nobody misses %s told %d times", seed, i, kind, told)
				}
			}
		}
	}
}
