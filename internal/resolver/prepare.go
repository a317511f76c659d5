package resolver

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// applied is a change that a step will make if its result is accepted.
type applied struct {
	change *entity.Change
	after  *entity.Entity // nil: the view shows a later step already
}

// prepare loads the entities that the step may need and tries the reported
// changes on them. A change that does not fit is not let in: it becomes a
// failure of its attempt.
func (p *partition) prepare(ctx context.Context, g *gathered, at time.Time) error {
	p.heads.evict(p.emitter.emitted.Load())
	var ids []string
	for i := range g.in {
		switch in := &g.in[i]; {
		case in.Submit != nil:
			ids = append(ids, in.Submit.Operation.Target)
		case in.Result != nil:
			ids = append(ids, in.Result.Target)
		}
	}
	if err := p.heads.load(ctx, ids); err != nil {
		return err
	}
	clear(p.changes)
	for i := range g.in {
		if r := g.in[i].Result; r != nil && r.Failure == nil {
			p.try(i, r, at)
		}
	}
	return nil
}

// try applies the change of r to the head and keeps the outcome for the time
// after the commit. Reports of attempts that are not current are left alone; the
// machine refuses them.
func (p *partition) try(index int, r *arbiter.Result, at time.Time) {
	v, ok := p.machine.Describe(r.OpID)
	if !ok || v.Status != op.Executing || v.Attempt != r.Attempt {
		return
	}
	if v.Operation.Target != r.Target { // the machine goes by the attempt, and charges it with the mistake
		p.spoil(r, "the report names the target "+r.Target+", the operation is on "+v.Operation.Target)
		return
	}
	change := new(entity.Change)
	if err := json.Unmarshal(r.Change, change); err != nil {
		p.spoil(r, "the reported change cannot be read: "+err.Error())
		return
	}
	before, _ := p.heads.get(r.Target)
	after, err := entity.Apply(before, change, r.OpID, at)
	if err != nil {
		p.spoil(r, err.Error())
		return
	}
	p.changes[index] = applied{change: change, after: after}
}

func (p *partition) spoil(r *arbiter.Result, why string) {
	r.Change = nil
	r.Failure = &op.Failure{Code: "bad_change", Message: why}
}

// replayed applies the accepted changes of a recorded step to the heads. The
// view may already show later steps; what it shows is not applied again.
func (p *partition) replayed(ctx context.Context, s *arbiter.Step) error {
	clear(p.changes)
	for i := range s.Out {
		ok := s.Out[i].Succeeded
		if ok == nil {
			continue
		}
		if err := p.heads.load(ctx, []string{ok.Target}); err != nil {
			return err
		}
		r := s.In[ok.Input].Result
		change := new(entity.Change)
		if err := json.Unmarshal(r.Change, change); err != nil {
			return fmt.Errorf("resolver: step %d: change of %s: %w", s.Number, r.OpID, err)
		}
		before, _ := p.heads.get(ok.Target)
		if before != nil && before.Revision > change.Base {
			p.changes[ok.Input] = applied{change: change}
			continue
		}
		after, err := entity.Apply(before, change, r.OpID, s.At)
		if err != nil {
			return fmt.Errorf("resolver: step %d: change of %s: %w", s.Number, r.OpID, err)
		}
		p.changes[ok.Input] = applied{change: change, after: after}
		p.heads.put(ok.Target, after, s.Number)
	}
	return nil
}
