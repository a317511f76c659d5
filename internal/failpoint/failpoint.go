// Package failpoint names the moments at which a process may die. A point is one
// atomic load until the environment switches it on:
//
//	OPS_FAILPOINTS="bus.journal.append.after=kill@3,bus.emit.work.before=error%5:42"
//
// A term is name=action, with @N for the N-th time that the process comes by (the
// first one without it), or %P:SEED for every time with a probability of P per
// cent, drawn from the seed (1 without it). The actions are
//
//	kill    SIGKILL to the process itself: nothing is flushed, nobody is told
//	stop    SIGSTOP to the process itself: somebody else has to send SIGCONT
//	panic   a panic with the name of the point
//	error   what was about to happen fails; where a point can do that
//
// A point that acts says so in one line on stderr, written before it acts, so that
// whoever has started the process can tell this death from another one.
//
// Nothing is switched on before [Enable], which a program calls when it starts.
package failpoint

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
)

// Env is the variable that switches points on.
const Env = "OPS_FAILPOINTS"

// Action is what a point does.
type Action string

// The actions.
const (
	Kill  Action = "kill"
	Stop  Action = "stop"
	Panic Action = "panic"
	Error Action = "error"
)

// ErrInjected is wrapped by every error that a point makes.
var ErrInjected = errors.New("failpoint: injected error")

// Info describes a point.
type Info struct {
	Name string `json:"name"`
	// Role is which kind of process comes by: resolver, executor, submitter,
	// operator or setup.
	Role string `json:"role"`
	When string `json:"when"` // in words
	// Fails: the point understands the action error.
	Fails bool `json:"fails"`
}

// Actions lists what the point can do.
func (i Info) Actions() []Action {
	if i.Fails {
		return []Action{Kill, Stop, Panic, Error}
	}
	return []Action{Kill, Stop, Panic}
}

// Point is one moment. Its methods may be called from any goroutine; nil is a
// point that does nothing.
type Point struct {
	info Info
	plan atomic.Pointer[plan]
}

// Pair is the moments before and after something that can fail. After is reached
// when it was done, and an error there is an answer that got lost.
type Pair struct{ Before, After *Point }

// plan is what a point that is switched on does, and when.
type plan struct {
	action Action
	at     uint64  // the hit that counts; 0: by chance
	chance float64 // 0 to 1
	hits   atomic.Uint64

	mu  sync.Mutex
	rng *rand.Rand
}

var (
	mu       sync.Mutex
	registry = map[string]*Point{}
	on       atomic.Bool // some point is switched on
)

// New registers a point that can kill, stop and panic. It panics when the name is
// taken: points are package variables.
func New(name, role, when string) *Point { return register(Info{Name: name, Role: role, When: when}) }

// Around registers name.before and name.after, which can fail, too. what names the
// thing in the words "before WHAT" and "after WHAT".
func Around(name, role, what string) Pair {
	return Pair{
		Before: register(Info{Name: name + ".before", Role: role, When: "before " + what, Fails: true}),
		After:  register(Info{Name: name + ".after", Role: role, When: "after " + what, Fails: true}),
	}
}

func register(i Info) *Point {
	mu.Lock()
	defer mu.Unlock()
	if registry[i.Name] != nil {
		panic("failpoint: two points are called " + i.Name)
	}
	p := &Point{info: i}
	registry[i.Name] = p
	return p
}

// All lists every point of the program, by name.
func All() []Info {
	mu.Lock()
	defer mu.Unlock()
	all := make([]Info, 0, len(registry))
	for _, p := range registry {
		all = append(all, p.info)
	}
	slices.SortFunc(all, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// On reports whether any point is switched on: what is only needed to find the
// right point need not be done otherwise.
func On() bool { return on.Load() }

// Hit is where the process comes by, and may not return.
func (p *Point) Hit() { _ = p.Err() } // a point without Fails makes no error

// Err is Hit at a point that can fail; it returns an error that wraps
// [ErrInjected] when what was about to happen is to fail.
func (p *Point) Err() error {
	if p == nil {
		return nil
	}
	plan := p.plan.Load()
	if plan == nil || !plan.due() {
		return nil
	}
	announce(p.info.Name, plan.action)
	switch plan.action {
	case Kill:
		kill()
	case Stop:
		stop()
	case Panic:
		panic("failpoint: " + p.info.Name)
	case Error:
		return fmt.Errorf("%w at %s", ErrInjected, p.info.Name)
	}
	return nil
}

// due counts a hit and reports whether it is the one.
func (l *plan) due() bool {
	n := l.hits.Add(1)
	if l.at > 0 {
		return n == l.at
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.Float64() < l.chance
}
