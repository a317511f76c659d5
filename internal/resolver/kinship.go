package resolver

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Bounds of a search for an ancestor.
const (
	directorySize = 1 << 16
	kinPoll       = 2 * time.Millisecond // the first pause; each is twice the one before
	kinPollMost   = 100 * time.Millisecond
)

// kinship finds ancestors that live in other partitions. One search serves all
// partitions of the process. Its directory saves waits and reads, and nothing
// depends on what it holds.
//
// An ancestor is unknown only once every partition has passed the child's place
// in the intake, so that a parent acknowledged before its child was sent is
// always found, wherever it is (contract §3.3). While a partition has no owner
// the search goes on: guessing would let the wrong operation win.
type kinship struct {
	bus   Log
	world World

	mu     sync.Mutex
	byID   map[string]arbiter.Kin
	ring   []string
	next   int
	served map[int]reached // the partitions served by this process
}

// reached is how far a partition of this process has come.
type reached struct {
	cursor uint64        // it has consumed the intake up to here
	seq    uint64        // of its last step in the journal
	step   uint64        // that step
	told   func() uint64 // the last step that the views show, from any goroutine
}

func newKinship(b Log, world World) *kinship {
	return &kinship{bus: b, world: world, byID: map[string]arbiter.Kin{}, served: map[int]reached{}}
}

// add remembers an accepted operation.
func (k *kinship) add(v *op.Operation) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.byID[v.ID]; ok {
		return
	}
	k.byID[v.ID] = arbiter.Kin{OpID: v.ID, Priority: v.Priority, Parent: v.Parent}
	if len(k.ring) < directorySize {
		k.ring = append(k.ring, v.ID)
		return
	}
	delete(k.byID, k.ring[k.next])
	k.ring[k.next] = v.ID
	k.next = (k.next + 1) % directorySize
}

// passed notes how far a partition of this process has come.
func (k *kinship) passed(partition int, r reached) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.served[partition] = r
}

func (k *kinship) reached(partition int) (r reached, local bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, local = k.served[partition]
	return r, local
}

// gone forgets a partition that this process no longer serves.
func (k *kinship) gone(partition int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.served, partition)
}

func (k *kinship) known(id string) (arbiter.Kin, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.byID[id]
	return v, ok
}

// search is one look for ancestors of operations at or before a place.
type search struct {
	place  uint64
	passed map[int]bool   // partitions that have consumed and told all before place
	step   map[int]uint64 // the step that had consumed it when that was first seen
}

// find answers for ids one by one as they are found. It ends when all are
// answered, or with ctx.
func (k *kinship) find(ctx context.Context, ids []string, place uint64, answer func(arbiter.Kin)) {
	s := &search{place: place, passed: map[int]bool{}, step: map[int]uint64{}}
	for wait := kinPoll; ; wait = min(2*wait, kinPollMost) {
		// In this order: what was told before the partitions passed is seen.
		passed, err := k.allPassed(ctx, s)
		ids = slices.DeleteFunc(ids, func(id string) bool {
			v, ok := k.look(ctx, id)
			if ok {
				answer(v)
			}
			return ok
		})
		if len(ids) == 0 {
			return
		}
		if err == nil && passed {
			break
		}
		if k.world.Sleep(ctx, wait) != nil {
			return
		}
	}
	for _, id := range ids {
		answer(arbiter.Kin{OpID: id, Unknown: true, Upto: place})
	}
}

// look asks this process's own partitions, then the view.
func (k *kinship) look(ctx context.Context, id string) (arbiter.Kin, bool) {
	if v, ok := k.known(id); ok {
		return v, true
	}
	data, found, err := k.bus.Record(ctx, id)
	if err != nil || !found {
		return arbiter.Kin{}, false
	}
	var r op.Record
	if err := json.Unmarshal(data, &r); err != nil || r.OpID != id {
		return arbiter.Kin{}, false
	}
	return arbiter.Kin{OpID: id, Priority: r.Priority, Parent: r.Parent}, true
}

// allPassed reports whether every partition has consumed, and told the views
// about, all that stands before the place of the search in the intake.
func (k *kinship) allPassed(ctx context.Context, s *search) (bool, error) {
	for q := range k.bus.Layout().Partitions {
		if s.passed[q] {
			continue
		}
		passed, err := k.passedBy(ctx, s, q)
		if err != nil || !passed {
			return false, err
		}
		s.passed[q] = true
	}
	return true, nil
}

func (k *kinship) passedBy(ctx context.Context, s *search, q int) (bool, error) {
	own, local := k.reached(q)
	if local && own.cursor >= s.place {
		return k.ownTold(s, q, own), nil
	}
	last, err := k.bus.LastIntake(ctx, q)
	if err != nil {
		return false, err
	}
	need := min(last, s.place)
	if !local {
		return k.foreignPassed(ctx, s, q, need)
	}
	if own.cursor < need {
		return false, nil
	}
	// Another process may have taken it over without our knowing, and have
	// consumed and trimmed what we have never seen.
	e, _, err := k.bus.JournalLast(ctx, q)
	if err != nil {
		return false, err
	}
	now, _ := k.reached(q)
	if e.Seq > now.seq {
		return k.foreignPassed(ctx, s, q, need)
	}
	// With what it has reached by now: it may have consumed and trimmed between the
	// first look and the question for the end of the intake.
	return e.Seq >= own.seq && k.ownTold(s, q, now), nil
}

// ownTold reports whether the views show what a partition of this process had
// consumed when this was first asked. The directory may know it sooner; but that
// lets go of what is old, and a burst is consumed faster than it is told.
func (k *kinship) ownTold(s *search, q int, own reached) bool {
	if s.step[q] == 0 {
		s.step[q] = own.step
	}
	return own.told() >= s.step[q]
}

// foreignPassed asks the journal about a partition of another process: one of its
// steps must have consumed need, and the outputs up to that step must be told.
// That step is looked for once, since a busy partition is always ahead of what
// it has told. Where need is 0 the partition has nothing in the intake: what it
// has consumed may be trimmed already and still wait to be told.
func (k *kinship) foreignPassed(ctx context.Context, search *search, partition int, need uint64) (bool, error) {
	if search.step[partition] == 0 {
		e, found, err := k.bus.JournalLast(ctx, partition)
		if err != nil || !found {
			return err == nil && need == 0, err
		}
		var s struct {
			Number uint64 `json:"step"`
			Cursor uint64 `json:"cursor"`
		}
		if err := json.Unmarshal(e.Data, &s); err != nil {
			return false, err
		}
		if s.Cursor < need {
			return false, nil
		}
		search.step[partition] = s.Number
	}
	mark, err := k.bus.Mark(ctx, partition)
	return mark >= search.step[partition], err
}

// ask starts a search for the ancestors that the machine misses. The answers
// come back as inputs.
func (p *partition) ask(ctx context.Context) {
	wants := p.machine.Wants()
	if len(wants) == 0 {
		return
	}
	place := p.cursor // at or behind the place of every child that asks
	p.world.Go(func() {
		p.kinship.find(ctx, wants, place, func(v arbiter.Kin) {
			select {
			case p.kin <- arbiter.Input{Kin: &v}:
			case <-ctx.Done():
			}
		})
	})
}
