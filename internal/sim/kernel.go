package sim

import (
	"container/heap"
	"iter"
	"math/rand/v2"
	"time"
)

// began is the instant at which every history begins. It is far from any real
// one, so that a deadline of simulated time never ends a real context.
var began = time.Date(2100, time.January, 1, 0, 0, 0, 0, time.UTC)

// kernel is the scheduler: one queue of events in simulated time, and coroutines
// that are resumed by them. Whatever happens next is a function of the seed.
type kernel struct {
	rng     *rand.Rand
	now     time.Duration // since began
	queue   events
	n       uint64 // events so far, which settles ties
	current *task  // that runs; nil: an event that belongs to nobody
	trace   trace
}

func newKernel(seed uint64) *kernel {
	return &kernel{rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))}
}

// event is something that happens at an instant.
type event struct {
	at time.Duration
	n  uint64
	do func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// after has do called when d has passed.
func (k *kernel) after(d time.Duration, do func()) {
	k.n++
	heap.Push(&k.queue, event{at: k.now + max(d, 0), n: k.n, do: do})
}

// step lets the next thing happen. It reports false when nothing is left.
func (k *kernel) step() bool {
	if len(k.queue) == 0 {
		return false
	}
	e := heap.Pop(&k.queue).(event)
	k.now = e.at
	e.do()
	return true
}

// chance is true with a probability of p in a thousand.
func (k *kernel) chance(p int) bool { return p > 0 && k.rng.IntN(1000) < p }

// between draws a duration.
func (k *kernel) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(k.rng.Int64N(int64(most-least)))
}

// scope is a part of a process that lives and dies as a whole: the process
// itself, or what belongs to one reign in it.
type scope struct {
	k     *kernel
	proc  *process
	main  *task // that takes what the others leave for it; nil: nobody
	dead  bool
	tasks []*task
	subs  []*scope
}

// sub returns a part of s that dies with it.
func (s *scope) sub() *scope {
	c := &scope{k: s.k, proc: s.proc, dead: s.dead}
	s.subs = append(s.subs, c)
	return c
}

// kill ends everything in s. Memory is gone; what was sent is under way. The task
// that runs ends by itself at its next call, which is at once when it kills itself.
func (s *scope) kill() {
	if s.dead {
		return
	}
	s.dead = true
	for _, c := range s.subs {
		c.kill()
	}
	for _, t := range s.tasks {
		if t != s.k.current && !t.done {
			t.end()
		}
	}
	s.tasks, s.subs = nil, nil
}

// task is a coroutine: real code that runs until it waits for the log, for time
// or for somebody else. Only one runs at any time.
type task struct {
	k      *kernel
	scope  *scope
	next   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	ticket uint64 // of the present wait; whoever wakes with an older one is late
	done   bool
}

// crashed is what unwinds the stack of a task whose process is gone.
type crashed struct{}

// spawn starts a coroutine. It runs for the first time when the present one waits.
func (s *scope) spawn(f func(t *task)) *task {
	t := &task{k: s.k, scope: s}
	if s.dead {
		t.done = true
		return t
	}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(crashed); !ok {
					panic(r)
				}
			}
		}()
		t.yield = yield
		f(t)
	})
	s.tasks = append(s.tasks, t)
	if len(s.tasks) > 32 {
		s.sweep()
	}
	t.after(0)
	return t
}

// sweep forgets tasks that are done.
func (s *scope) sweep() {
	kept := s.tasks[:0]
	for _, t := range s.tasks {
		if !t.done {
			kept = append(kept, t)
		}
	}
	clear(s.tasks[len(kept):])
	s.tasks = kept
}

// after has t resumed when d has passed, unless it is before.
func (t *task) after(d time.Duration) {
	ticket := t.ticket
	t.k.after(d, func() { t.resume(ticket) })
}

// wake has t resumed shortly, if it waits.
func (t *task) wake() {
	if t != nil && !t.done {
		t.after(t.k.between(0, 500*time.Microsecond))
	}
}

// resume lets t go on, later if its process is paused.
func (t *task) resume(ticket uint64) {
	switch p := t.scope.proc; {
	case t.done || t.scope.dead || ticket != t.ticket:
		return
	case p.pausedUntil > t.k.now:
		p.later(func() { t.resume(ticket) })
		return
	}
	t.ticket++
	before := t.k.current
	t.k.current = t
	_, more := t.next()
	t.done = !more
	t.k.current = before
}

// end unwinds a task that waits.
func (t *task) end() {
	t.done = true
	before := t.k.current
	t.k.current = t
	t.stop()
	t.k.current = before
}

// alive unwinds the running task when its process is gone.
func (t *task) alive() {
	if t.scope.dead {
		panic(crashed{})
	}
}

// wait lets others run until d has passed or somebody wakes t.
func (t *task) wait(d time.Duration) {
	t.alive()
	t.after(d)
	if !t.yield(struct{}{}) {
		t.scope.dead = true
	}
	t.alive()
}

// sleep lets others run until d has passed.
func (t *task) sleep(d time.Duration) {
	for until := t.k.now + max(d, 0); ; {
		t.wait(until - t.k.now)
		if t.k.now >= until {
			return
		}
	}
}
