package audit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// What the world's clients choose from. The last two types are registered now and
// then.
var (
	worldTypes      = []string{op.TypeComplexUpdate, op.TypeModifyField, op.TypeComplexUpdate, op.TypeModifyField, "paint", "polish"}
	worldSubmitters = []string{"", "ann", "bob"}
	worldChoices    = []op.Conflict{op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry, op.OnConflictSupersede, op.OnConflictCoalesce, op.OnConflictCoalesce}
)

func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }

func (w *world) target() string { return fmt.Sprint("e", w.rng.IntN(worldTargets)) }

func (w *world) anyID() string {
	if len(w.ids) == 0 || w.one(6) {
		return fmt.Sprint("o", w.rng.IntN(400)) // of the future, or of nobody
	}
	return pick(w, w.ids)
}

func (w *world) operation(target string) op.Operation {
	retries := w.rng.IntN(4)
	o := op.Operation{
		ID: fmt.Sprint("o", len(w.ids)), Type: pick(w, worldTypes), Target: target, Priority: op.Priority(1 + w.rng.IntN(10)), MaxRetries: &retries,
		OnConflict: pick(w, worldChoices[:3]), Submitter: pick(w, worldSubmitters), Preemptible: !w.one(3),
		Params: json.RawMessage(fmt.Sprintf(`{"v":%d}`, w.rng.IntN(5)/3)),
	}
	if w.one(3) {
		o.Parent = w.anyID()
	}
	if w.one(9) {
		o.RetryOf = w.anyID()
	}
	if w.one(6) {
		o.Deadline = &op.Deadline{After: time.Millisecond + w.millis(400)}
		if w.one(3) {
			o.Deadline = &op.Deadline{At: w.now.Add(w.millis(100) - 30*time.Millisecond)} // too late, now and then
		}
	}
	return o
}

// submissions are some operations on one partition's targets, now and then one
// that was submitted before.
func (w *world) submissions(p int) []arbiter.Input {
	var in []arbiter.Input
	w.intake++
	for i := range 1 + w.rng.IntN(3) {
		target := w.target()
		if worldPartition(target) != p && !w.one(3) {
			target = fmt.Sprint("e", p)
		}
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

// cancels ask for the end of one operation, of all of a target, or of all of a
// submitter.
func (w *world) cancels(p int) []arbiter.Input {
	w.intake++
	c := &arbiter.Cancel{Place: op.Place{Seq: w.intake}, Alone: w.one(3)}
	switch target := w.target(); {
	case w.one(6):
		c.Submitter = pick(w, worldSubmitters[1:])
	case worldPartition(target) != p:
		return nil
	case w.one(4):
		c.Target, c.All = target, true
	case w.running[p][target].OpID != "" && w.one(2):
		c.Target, c.OpID = target, w.running[p][target].OpID
	default:
		c.Target, c.OpID = target, w.anyID()
		for _, id := range w.ids[max(0, len(w.ids)-20):] {
			if w.known[id].Target == target && w.one(3) {
				c.OpID = id
			}
		}
	}
	return []arbiter.Input{{Cancel: c}}
}

// cascades tell a partition what others have cancelled with its descendants, now
// and then twice.
func (w *world) cascades(p int) []arbiter.Input {
	if len(w.cut[p]) == 0 {
		return nil
	}
	w.intake++
	in := arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: w.intake}, Ancestors: w.cut[p]}}
	if w.cut[p] = nil; w.one(10) {
		w.cut[p] = in.Cancel.Ancestors[:1]
	}
	return []arbiter.Input{in}
}

// reports are results and heartbeats of what runs in a partition, and of what ran
// before.
func (w *world) reports(p int) []arbiter.Input {
	var in []arbiter.Input
	for i := range worldTargets {
		target := fmt.Sprint("e", i)
		g, ok := w.running[p][target]
		if !ok || w.one(3) {
			continue
		}
		if w.one(6) {
			g.Attempt-- // a zombie
		}
		if w.one(3) {
			in = append(in, arbiter.Input{Beat: &arbiter.Beat{OpID: g.OpID, Target: target, Attempt: g.Attempt, Executor: "x"}})
			if w.one(2) {
				continue
			}
		}
		r := &arbiter.Result{OpID: g.OpID, Target: target, Attempt: g.Attempt, Executor: "x", Duration: time.Millisecond}
		if w.one(3) {
			r.Failure = &op.Failure{Message: "no", Terminal: w.one(4)}
		} else {
			r.Change = w.result(target)
		}
		in = append(in, arbiter.Input{Result: r})
	}
	return in
}

func (w *world) result(target string) json.RawMessage {
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
		if r := w.records[id]; r != nil {
			k = &arbiter.Kin{OpID: id, Priority: r.Priority, Parent: w.known[id].Parent}
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
	p.StagingWindow = w.millis(20)
	p.WindowByType = map[string]time.Duration{op.TypeModifyField: w.millis(9)}
	if w.one(2) {
		p.WindowByPrefix = map[string]time.Duration{"e1": 0, "e": 3 * time.Millisecond}
	}
	p.GracePeriod = w.millis(40)
	p.MaxStaged, p.MaxExecuting, p.MaxOpen = 1+w.rng.IntN(9), 1+w.rng.IntN(3), 6+w.rng.IntN(40)
	p.AttemptTimeout = 20*time.Millisecond + w.millis(400)
	p.MaxOperationAge = 500*time.Millisecond + w.millis(1500)
	p.Preemption, p.MaxPreemptions = !w.one(3), w.rng.IntN(5)
	p.RefusePriority = w.one(4)
	if w.one(2) {
		p.Aging = arbiter.Aging{Every: 5*time.Millisecond + w.millis(40), Step: 1 + w.rng.IntN(3), Max: 1 + w.rng.IntN(9)}
	}
	if w.one(4) {
		p.Paused = arbiter.Paused{Types: []string{pick(w, worldTypes)}, Targets: []string{pick(w, []string{"e1", "e*", "e2*", "e4"})}}
	}
	if w.one(2) {
		p.Submitters = map[string]arbiter.Range{"ann": w.bounds(), "bob": w.bounds()}
	}
	p.Types = map[string]arbiter.TypePolicy{}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(worldTypes))) {
		if w.one(2) {
			continue
		}
		t := arbiter.TypePolicy{OnConflict: pick(w, append([]op.Conflict{""}, worldChoices...)), Range: w.bounds()}
		if w.one(4) {
			t.AttemptTimeout = 30*time.Millisecond + w.millis(100)
		}
		p.Types[name] = t
	}
	return arbiter.Input{Policy: &p}
}

func (w *world) bounds() arbiter.Range {
	low := op.Priority(w.rng.IntN(7))
	return arbiter.Range{Min: low, Max: pick(w, []op.Priority{0, 0, low + op.Priority(w.rng.IntN(4))})}
}
