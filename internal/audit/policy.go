package audit

import (
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// What a policy says is read here once more on purpose: the auditor does not take
// it from the code that it audits.

var builtin = op.BuiltinTypes()

// knows reports whether operations of a type may be submitted.
func knows(p *arbiter.Policy, kind string) bool {
	_, registered := p.Types[kind]
	return registered || builtin[kind].Name == kind
}

// windowFor is the staging window that an operation asks for: the longest
// matching prefix of its target, then its type, then the default.
func windowFor(p *arbiter.Policy, target, kind string) time.Duration {
	for n := len(target); n > 0 && len(p.WindowByPrefix) > 0; n-- {
		if w, ok := p.WindowByPrefix[target[:n]]; ok {
			return w
		}
	}
	if w, ok := p.WindowByType[kind]; ok {
		return w
	}
	return p.StagingWindow
}

// allowed is the priority that an operation has when it asks for another: the
// nearest in the range of its type, then the nearest in that of its submitter.
// The other sides of structural operations are the system's and may be anything.
func allowed(p *arbiter.Policy, o *op.Operation) op.Priority {
	if o.Type == op.TypeFollowUp {
		return o.Priority
	}
	return within(p.Submitters[o.Submitter], within(p.Types[o.Type].Range, o.Priority))
}

func within(r arbiter.Range, p op.Priority) op.Priority {
	switch {
	case r.Max > 0 && p > r.Max:
		return r.Max
	case r.Min > 0 && p < r.Min:
		return r.Min
	}
	return p
}

// paused reports whether an operator has stopped a type or a target. A target
// that ends in a star stands for all that begin like it.
func paused(p *arbiter.Policy, kind, target string) bool {
	if slices.Contains(p.Paused.Types, kind) {
		return true
	}
	for _, name := range p.Paused.Targets {
		if name == target || strings.HasSuffix(name, "*") && strings.HasPrefix(target, name[:len(name)-1]) {
			return true
		}
	}
	return false
}

// held reports whether o waits for an operator. The other side of a structural
// operation never does.
func held(p *arbiter.Policy, o *operation) bool {
	return len(p.Paused.Types)+len(p.Paused.Targets) > 0 && !o.followUp() && paused(p, o.kind, o.target.id)
}

// choice is what becomes of o when it loses: the operator's for its type, else its
// own.
func choice(p *arbiter.Policy, o *operation) op.Conflict {
	if c := p.Types[o.kind].OnConflict; c != "" {
		return c
	}
	return o.onConflict
}

// shared is c where every operation's lies: one that was just decoded lies alone, and
// to look at a crowd is to fetch each of its words.
func shared(c op.Conflict) op.Conflict {
	for _, known := range [...]op.Conflict{op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry, op.OnConflictSupersede, op.OnConflictCoalesce} {
		if c == known {
			return known
		}
	}
	return c
}

// leaseFor is how long an attempt may go on without a sign of life.
func leaseFor(p *arbiter.Policy, kind string) time.Duration {
	if d := p.Types[kind].AttemptTimeout; d > 0 {
		return d
	}
	return p.AttemptTimeout
}

// boostFor is what so much waiting adds to an effective priority.
func boostFor(a arbiter.Aging, waited time.Duration, effective op.Priority) int {
	if a.Every <= 0 || a.Step <= 0 || a.Max <= 0 || waited < 0 {
		return 0
	}
	boost := a.Max
	if times := int64(waited / a.Every); times < int64(a.Max) { // Step is 1 at least
		boost = min(int(times)*min(a.Step, a.Max), a.Max)
	}
	return min(boost, int(op.Critical-effective))
}

// yields reports whether an executing operation may be preempted at all.
func yields(p *arbiter.Policy, o *operation) bool {
	return p.Preemption && o.preemptible && !o.followUp() && o.preemptions < p.MaxPreemptions
}

// comeAgain is when it is worth submitting again what there was no room for.
func comeAgain(p *arbiter.Policy) time.Duration { return p.RetryMax / 5 }
