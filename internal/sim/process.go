package sim

import (
	"context"
	"time"
)

// process is a resolver, an executor or a client: a memory that can be lost, and
// a clock that can be wrong.
type process struct {
	*scope
	k           *kernel
	name        string
	pausedUntil time.Duration
	held        []func()      // what is to happen when the pause is over
	offset      time.Duration // of its clock
	drift       float64       // of its clock, as a rate
	born        time.Duration
	begin       func() // what it does when it starts
	lives       int
	gone        bool // it does not come back
}

// start gives the process a new memory.
func (p *process) start() {
	p.scope = &scope{k: p.k, proc: p}
	p.born = p.k.now
	p.pausedUntil, p.held = 0, nil
	p.lives++
	p.begin()
}

// crash takes its memory away. It comes back later.
func (p *process) crash() {
	p.kill()
	if !p.gone {
		p.k.after(p.k.between(10*time.Millisecond, 8*time.Second), func() {
			if p.dead && !p.gone {
				p.k.trace.add(p.k.now, p.name, "starts", "", uint64(p.lives), 0)
				p.start()
			}
		})
	}
}

// now is what its clock says.
func (p *process) now() time.Time {
	return began.Add(p.offset + p.k.now + time.Duration(p.drift*float64(p.k.now-p.born)))
}

// sleep waits by its clock, which is the world's Sleep of the real code.
func (p *process) sleep(_ context.Context, d time.Duration) error {
	t := p.k.current
	if t != t.scope.main {
		t.scope.main.wake()
	}
	t.sleep(time.Duration(float64(d)/(1+p.drift)) + 1) // never too early
	return nil
}

// run starts something beside the running task, in the same part of the process.
func (p *process) run(f func()) {
	s := p.scope
	if t := p.k.current; t != nil && t.scope.proc == p {
		s = t.scope
	}
	s.spawn(func(t *task) {
		f()
		t.scope.main.wake()
	})
}

// pause lets the process stand still for a while.
func (p *process) pause(d time.Duration) {
	p.pausedUntil = max(p.pausedUntil, p.k.now+d)
	p.k.after(d, p.release)
}

// later has f called when the pause is over.
func (p *process) later(f func()) { p.held = append(p.held, f) }

// release lets happen what was held, if the pause is over.
func (p *process) release() {
	if p.pausedUntil > p.k.now {
		return
	}
	held := p.held
	p.held = nil
	for _, f := range held {
		p.k.after(0, f)
	}
}

// revive starts a process that is dead and ends its pause.
func (p *process) revive() {
	if p.dead {
		p.start()
		return
	}
	p.pausedUntil = min(p.pausedUntil, p.k.now)
	p.release()
}
