package resolver

import (
	"context"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Bounds of the dry runs of one partition.
const (
	maxQuestions = 64              // that wait for the partition
	kinPatience  = 2 * time.Second // with a search for the ancestors of one
)

// question asks what would become of an operation. It goes round between the
// partition, which knows its operations, and a search for the ancestors that the
// partition does not know, until there is none left.
type question struct {
	data      []byte
	operation op.Operation // what data says, once it is read
	read      bool
	sought    bool // comes back from a search
	kin       []arbiter.Kin
	until     time.Time
	reply     func([]byte)
}

// whatIf takes a question. It runs on the connection's goroutine and never waits:
// a dry run is not worth holding anything up.
func (p *partition) whatIf(ctx context.Context, data []byte, reply func([]byte)) {
	q := question{data: data, until: time.Now().Add(kinPatience), reply: reply}
	select {
	case p.asked <- q:
	case <-ctx.Done():
	default:
		p.tooMany(&q)
	}
}

func (p *partition) tooMany(q *question) {
	e := op.Errorf(op.CodeOverloaded, "", "the partition has %d dry runs to answer", maxQuestions)
	e.RetryAfterMS = kinPatience.Milliseconds()
	p.refuse(q, "full", e)
}

// foresee answers a question, or has the ancestors looked for that are missing.
func (p *partition) foresee(ctx context.Context, q question) {
	if q.sought {
		q.sought = false
		p.seeking--
	}
	if !q.read {
		if e := p.understand(&q); e != nil {
			p.refuse(&q, "refused", e)
			return
		}
	}
	if id := p.missing(&q); id != "" {
		if p.seeking == maxQuestions {
			p.tooMany(&q)
			return
		}
		p.seeking++
		p.world.Go(func() { p.seek(ctx, q, id) })
		return
	}
	body, err := op.Marshal(p.machine.WhatIf(q.operation, later(p.clock.now(), p.machine.At()), q.kin))
	if err != nil {
		p.log.Warn("a forecast could not be encoded", "error", err)
		return
	}
	p.cfg.Metrics.Forecasts.WithLabelValues("answered").Inc()
	q.reply(body)
}

// understand reads the operation with the types of the policy in force.
func (p *partition) understand(q *question) *op.Error {
	ops, err := op.Decode(q.data, "", p.registry.Types())
	if err != nil {
		if e := op.AsError(err); e != nil {
			return e
		}
		return op.Errorf(op.CodeBadJSON, "", "%s", err.Error())
	}
	if len(ops) != 1 {
		return op.Errorf(op.CodeBadArray, "", "a dry run is about one operation, not %d", len(ops))
	}
	q.operation, q.read = ops[0], true
	if bus.PartitionOf(q.operation.Target, p.bus.Layout().Partitions) != p.id {
		return op.Errorf(op.CodeTargetDiffers, "target_entity_id", "target %.64q belongs to another partition than the subject", q.operation.Target)
	}
	return p.registry.Check(&q.operation)
}

func (p *partition) refuse(q *question, outcome string, e *op.Error) {
	p.cfg.Metrics.Forecasts.WithLabelValues(outcome).Inc()
	if body, err := op.Marshal(e); err == nil {
		q.reply(body)
	}
}

// missing returns the first ancestor that neither the machine nor the question
// knows of; empty: none, or the chain ends where nobody knows further.
func (p *partition) missing(q *question) string {
	seen := map[string]bool{q.operation.ID: true}
	for id := q.operation.Parent; id != "" && !seen[id] && len(seen) <= arbiter.MaxDepth; {
		seen[id] = true
		k, ok := p.machine.Known(id)
		for i := 0; !ok && i < len(q.kin); i++ {
			k, ok = q.kin[i], q.kin[i].OpID == id
		}
		if !ok {
			return id
		}
		id = k.Parent // of an unknown one there is none
	}
	return ""
}

// seek looks for one ancestor and asks the partition again. What is not found in
// time counts as unknown: the answer says so.
func (p *partition) seek(ctx context.Context, q question, id string) {
	search, cancel := context.WithDeadline(ctx, q.until)
	defer cancel()
	found := arbiter.Kin{OpID: id, Unknown: true}
	if end, err := p.bus.IntakeEnd(search); err == nil {
		p.kinship.find(search, []string{id}, end, func(k arbiter.Kin) { found = k })
	}
	q.kin, q.sought = append(q.kin, found), true
	select {
	case p.asked <- q:
	case <-ctx.Done():
	}
}
