package torture

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// fate is what the journal says about one operation.
type fate struct {
	seen   bool
	target string
	first  time.Time // when it was first in the journal
	grant  time.Time // when its first attempt was granted
	end    time.Time
	ends   int // terminal records
	status op.Status
}

// reign begins with the step by which an owner took a partition over.
type reign struct {
	owner string
	begin time.Time
}

// ledger is the journal as far as it has been read: what became of the operations
// of the run, and when which target was served. Its methods may be called from any
// goroutine.
type ledger struct {
	prefix string // of the ids of the run

	mu        sync.Mutex
	fates     map[string]*fate
	served    map[string][]time.Time // by target: an attempt was granted, or an operation ended
	seq       uint64
	at        time.Time // of the last entry
	ended     int
	succeeded int
	takeovers int
	reigns    map[int][]reign // by partition
	decisions int
	bad       int // entries that could not be read
}

func newLedger(prefix string) *ledger {
	return &ledger{prefix: prefix, fates: map[string]*fate{}, served: map[string][]time.Time{}, reigns: map[int][]reign{}}
}

// follow reads the journal until ctx ends, whatever happens to the servers.
func (g *ledger) follow(ctx context.Context, b *bus.Bus, after uint64) {
	g.mu.Lock()
	g.seq = after
	g.mu.Unlock()
	for ctx.Err() == nil {
		for e, err := range b.JournalFollow(ctx, g.last()) {
			if err != nil {
				break
			}
			g.entry(&e)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (g *ledger) last() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seq
}

// entry takes one message of the journal.
func (g *ledger) entry(e *bus.Entry) {
	var s arbiter.Step
	err := json.Unmarshal(e.Data, &s)
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.Seq <= g.seq {
		return
	}
	g.seq, g.at = e.Seq, e.Time
	if err != nil {
		g.bad++
		return
	}
	if s.Takeover {
		g.takeovers++
		g.reigns[s.Partition] = append(g.reigns[s.Partition], reign{s.Owner, e.Time})
	}
	for i := range s.In {
		if sub := s.In[i].Submit; sub != nil && strings.HasPrefix(sub.Operation.ID, g.prefix) {
			g.submitted(sub, e.Time)
		}
		if bad := s.In[i].Invalid; bad != nil && strings.HasPrefix(bad.OpID, g.prefix) {
			// Refused by the resolver: an end of its own kind.
			if g.fates[bad.OpID] == nil { // another end of a known one is a second end
				g.fates[bad.OpID] = &fate{seen: true, target: bad.Target, first: e.Time}
			}
			g.over(bad.OpID, op.Rejected, e.Time)
		}
	}
	for i := range s.Out {
		g.effect(&s.Out[i], e.Time)
	}
}

func (g *ledger) submitted(s *arbiter.Submit, at time.Time) {
	if f := g.fates[s.Operation.ID]; f == nil {
		g.fates[s.Operation.ID] = &fate{seen: true, target: s.Operation.Target, first: at}
	}
}

func (g *ledger) effect(e *arbiter.Effect, at time.Time) {
	switch {
	case e.Decision != nil:
		g.decisions++
	case e.Granted != nil:
		if f := g.fates[e.Granted.OpID]; f != nil && f.grant.IsZero() {
			f.grant = at
		}
		g.serve(e.Granted.OpID, at)
	case e.Succeeded != nil:
		g.over(e.Succeeded.OpID, op.Succeeded, at)
	case e.Shared != nil:
		g.over(e.Shared.OpID, op.Succeeded, at)
	case e.Rejected != nil:
		g.over(e.Rejected.OpID, op.Rejected, at)
	case e.Cancelled != nil:
		g.over(e.Cancelled.OpID, op.Cancelled, at)
	}
}

func (g *ledger) serve(id string, at time.Time) {
	if f := g.fates[id]; f != nil {
		g.served[f.target] = append(g.served[f.target], at)
	}
}

func (g *ledger) over(id string, s op.Status, at time.Time) {
	f := g.fates[id]
	if f == nil {
		return
	}
	if f.ends == 0 {
		g.ended++
		if s == op.Succeeded {
			g.succeeded++
		}
	}
	f.ends++
	f.status, f.end = s, at
	g.serve(id, at)
}

// fate is what is known about an operation.
func (g *ledger) fate(id string) fate {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.fates[id]; f != nil {
		return *f
	}
	return fate{}
}

// open counts the operations of the run that have not ended; missing are those of
// the book that were acknowledged and have not even been seen.
func (g *ledger) open(b *book) (open, missing int) {
	lines := b.all()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.fates {
		if f.ends == 0 {
			open++
		}
	}
	for _, l := range lines {
		if l.answer == accepted && g.fates[l.id] == nil {
			missing++
		}
	}
	return open, missing
}
