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
	switch w.draw("what", 6) {
	case 0:
		s := w.sent[w.ids[w.draw("which", len(w.ids))]]
		w.in = append(w.in, arbiter.Input{Cancel: &arbiter.Cancel{OpID: s.Operation.ID, Target: s.Operation.Target, Alone: true}})
	case 1:
		w.in = append(w.in, arbiter.Input{Result: &arbiter.Result{
			OpID: w.ids[w.draw("which", len(w.ids))], Target: "t0", Attempt: 1 + w.draw("attempt", 2), Executor: "zombie",
		}})
	case 2:
		w.now = w.now.Add(time.Duration(w.draw("pause", 1500)) * time.Millisecond)
	case 3:
		if len(w.grants) > 0 {
			w.grants = w.grants[1:] // nobody will answer: the lease runs out
		}
	case 4:
		w.in = append(w.in, arbiter.Input{Invalid: &arbiter.Invalid{Place: op.Place{Seq: w.seq}, Error: &op.Error{Code: op.CodeBadID}}})
	default:
		w.in = append(w.in, arbiter.Input{Policy: w.anyPolicy()})
	}
}

func (w *world) anyPolicy() *arbiter.Policy {
	p := arbiter.DefaultPolicy()
	p.Revision = w.m.Policy().Revision + 1 + uint64(len(w.in))
	p.StagingWindow = time.Duration(w.draw("window", 30)) * time.Millisecond
	p.AttemptTimeout = time.Duration(100+w.draw("lease", 900)) * time.Millisecond
	p.MaxOperationAge = time.Duration(1+w.draw("age", 10)) * time.Second
	p.MaxStaged = 1 + w.draw("staged", 20)
	p.MaxExecuting = 1 + w.draw("executing", 4)
	p.RetryBase = time.Duration(1+w.draw("base", 100)) * time.Millisecond
	p.RetryMax = p.RetryBase * time.Duration(1+w.draw("most", 20))
	if w.flip("by type", 2) {
		p.WindowByType = map[string]time.Duration{op.TypeVersion: time.Duration(w.draw("window", 50)) * time.Millisecond}
	}
	if w.flip("by prefix", 2) {
		p.WindowByPrefix = map[string]time.Duration{"t": 5 * time.Millisecond, "t1": time.Duration(w.draw("window", 2)) * time.Second}
	}
	return &p
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
