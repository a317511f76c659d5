package arbiter_test

import (
	"strconv"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// window plays one window: up to most operations come in, in one step or in
// several; then the windows close; then results come in a random order.
func (w *world) window(most int) {
	if w.wild && len(w.steps) == 0 && w.flip("a policy from the start", 2) {
		w.in = append(w.in, arbiter.Input{Policy: w.anyPolicy()})
	}
	n := 1 + min(w.draw("operations", most), w.draw("at most", most))
	for index := 0; n > 0; n-- {
		w.submit(w.operation(), index)
		index++
		if w.flip("next message", 2) {
			index = 0
		}
		if w.flip("repeated", 16) {
			w.repeat()
		}
		if w.flip("step boundary", 6) {
			w.step()
			index = 0
			for len(w.wants) > 0 && w.flip("answer", 2) {
				w.answer(w.draw("which want", len(w.wants)))
			}
			w.now = w.now.Add(time.Duration(w.draw("pause", 4)) * time.Millisecond)
		}
		if w.wild && w.flip("disorder", 10) {
			w.disorder()
		}
	}
	w.settle()
	for range w.draw("results", 12) {
		if len(w.grants) == 0 {
			break
		}
		w.report()
		if w.wild && w.flip("disorder", 4) {
			w.disorder()
		}
		w.settle()
	}
}

// repeat delivers a submission again, as it was or under a new place.
func (w *world) repeat() {
	s := w.sent[w.ids[w.draw("which", len(w.ids))]]
	if w.flip("new place", 2) {
		w.seq++
		s.Place = op.Place{Seq: w.seq}
	}
	w.in = append(w.in, arbiter.Input{Submit: &s})
}

// disorder does something that seldom happens.
func (w *world) disorder() {
	some := w.sent[w.ids[len(w.ids)-1-w.draw("which", min(len(w.ids), 12))]].Operation
	if len(w.grants) > 0 && w.flip("one that executes", 2) {
		some = w.sent[w.grants[w.draw("which attempt", len(w.grants))].OpID].Operation
	}
	switch w.draw("what", 10) {
	case 0:
		w.cancel(arbiter.Cancel{OpID: some.ID, Target: some.Target})
	case 1:
		w.in = append(w.in, arbiter.Input{Result: &arbiter.Result{
			OpID: some.ID, Target: "t0", Attempt: 1 + w.draw("attempt", 2), Executor: "zombie",
		}})
	case 2:
		w.now = w.now.Add(time.Duration(w.draw("pause", 1500)) * time.Millisecond)
	case 3:
		if len(w.grants) > 0 {
			w.grants = w.grants[1:] // nobody will answer: the lease runs out
		}
	case 4:
		w.in = append(w.in, arbiter.Input{Invalid: &arbiter.Invalid{Place: op.Place{Seq: w.seq}, Error: &op.Error{Code: op.CodeBadID}}})
	case 5:
		w.cancelMany(some)
	case 6, 7:
		w.beat()
	default:
		w.in = append(w.in, arbiter.Input{Policy: w.anyPolicy()})
	}
}

func (w *world) cancel(c arbiter.Cancel) {
	w.seq++
	c.Place, c.Alone = op.Place{Seq: w.seq}, w.flip("alone", 3)
	w.in = append(w.in, arbiter.Input{Cancel: &c})
}

// cancelMany asks for the end of more than one.
func (w *world) cancelMany(some op.Operation) {
	switch w.draw("of whom", 5) {
	case 0:
		w.cancel(arbiter.Cancel{All: true, Target: some.Target})
	case 1:
		w.cancel(arbiter.Cancel{Submitter: "s" + strconv.Itoa(w.draw("which", 2))})
	case 2:
		w.cancel(arbiter.Cancel{Ancestors: []string{"ghost0", "k" + strconv.Itoa(w.draw("which", len(w.foreign)))}})
	default:
		w.cancel(arbiter.Cancel{Ancestors: []string{some.ID}})
	}
}

// beat is of an attempt that was granted once, maybe of one that is over.
func (w *world) beat() {
	if len(w.grants) == 0 {
		return
	}
	g := w.grants[w.draw("which attempt", len(w.grants))]
	w.in = append(w.in, arbiter.Input{Beat: &arbiter.Beat{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "e1"}})
}

func (w *world) anyPolicy() *arbiter.Policy {
	p := arbiter.DefaultPolicy()
	p.Revision = w.m.Policy().Revision + 1 + uint64(len(w.in))
	p.StagingWindow = time.Duration(w.draw("window", 30)) * time.Millisecond
	p.GracePeriod = time.Duration(w.draw("grace", 4)*40) * time.Millisecond
	p.AttemptTimeout = time.Duration(100+w.draw("lease", 900)) * time.Millisecond
	p.MaxOperationAge = time.Duration(1+w.draw("age", 10)) * time.Second
	p.MaxStaged = 1 + w.draw("staged", 20)
	p.MaxExecuting = 1 + w.draw("executing", 4)
	p.RetryBase = time.Duration(1+w.draw("base", 100)) * time.Millisecond
	p.RetryMax = p.RetryBase * time.Duration(1+w.draw("most", 20))
	p.Preemption, p.MaxPreemptions = w.flip("preemption", 2), w.draw("preemptions", 4)
	if w.flip("by type", 2) {
		p.WindowByType = map[string]time.Duration{op.TypeVersion: time.Duration(w.draw("window", 50)) * time.Millisecond}
	}
	if w.flip("by prefix", 2) {
		p.WindowByPrefix = map[string]time.Duration{"t": 5 * time.Millisecond, "t1": time.Duration(w.draw("window", 2)) * time.Second}
	}
	if w.flip("aging", 3) {
		p.Aging = arbiter.Aging{Every: time.Duration(1+w.draw("every", 200)) * time.Millisecond, Step: 1 + w.draw("step", 3), Max: 1 + w.draw("max", 9)}
	}
	if w.flip("full", 8) {
		p.MaxOpen = 1 + w.draw("open", 20)
	}
	w.restrict(&p)
	return &p
}

// restrict draws what an operator stops, demands and registers.
func (w *world) restrict(p *arbiter.Policy) {
	if w.flip("paused type", 8) {
		p.Paused.Types = []string{op.TypeVersion}
	}
	if w.flip("paused targets", 8) {
		p.Paused.Targets = []string{[]string{"t0", "t1", "t*"}[w.draw("which", 3)]}
	}
	p.RefusePriority = w.flip("refuse", 4)
	if w.flip("ranges", 4) {
		p.Submitters = map[string]arbiter.Range{"s0": {Max: op.Priority(1 + w.draw("max", 10))}, "s1": {Min: op.Priority(1 + w.draw("min", 10))}}
	}
	choices := []op.Conflict{"", op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry, op.OnConflictSupersede, op.OnConflictCoalesce, op.OnConflictCoalesce}
	p.Types = map[string]arbiter.TypePolicy{}
	for _, name := range []string{op.TypeModifyField, op.TypeVersion, "paint"} {
		if name != "paint" && w.flip("as it is", 2) || name == "paint" && w.flip("unregistered", 3) {
			continue
		}
		t := arbiter.TypePolicy{OnConflict: choices[w.draw("on conflict", len(choices))]}
		if w.flip("range", 4) {
			t.Range = arbiter.Range{Min: 3, Max: op.Priority(3 + w.draw("max", 8))}
		}
		if w.flip("timeout", 3) {
			t.AttemptTimeout = time.Duration(100+w.draw("lease", 300)) * time.Millisecond
		}
		p.Types[name] = t
	}
}

// quiesce stops submitting, answers every question and every grant, and lets
// time pass. It returns how many steps that took, or false when operations stay
// open or the machine never comes to rest.
func (w *world) quiesce(limit int) bool {
	for range limit {
		for len(w.wants) > 0 {
			w.answer(0)
		}
		for _, g := range w.grants {
			w.in = append(w.in, arbiter.Input{Result: &arbiter.Result{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "e" + strconv.Itoa(g.Attempt)}})
		}
		w.grants = nil
		if len(w.in) == 0 {
			at, ok := w.m.Next()
			if !ok {
				return w.m.Open() == 0 && len(w.m.Executing()) == 0
			}
			if at.After(w.now) {
				w.now = at
			}
		}
		w.step()
	}
	return false
}
