package observer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// ExecutingType is the value of "type" in [Executing].
const ExecutingType = "ops.v1.executing"

// Executing is what executes as far as the journal is read.
type Executing struct {
	Type       string    `json:"type"` // ExecutingType
	JournalSeq uint64    `json:"journal_seq"`
	Attempts   []Attempt `json:"attempts"` // the one whose lease ends first comes first
}

// Attempt is one attempt under way.
type Attempt struct {
	OpID      string      `json:"op_id"`
	OpType    string      `json:"op_type"`
	Target    string      `json:"target_entity_id"`
	Priority  op.Priority `json:"priority"`
	Partition int         `json:"partition"`
	Owner     string      `json:"owner"` // the resolver that wrote the partition's last step
	Attempt   int         `json:"attempt"`
	GrantedAt time.Time   `json:"granted_at"`
	LeaseEnds time.Time   `json:"lease_ends"`          // by the owner's clock
	BeatenAt  *time.Time  `json:"beaten_at,omitempty"` // last sign of life of its executor
}

// executing lists the attempts under way.
func (p *projection) executing() Executing {
	x := Executing{Type: ExecutingType, JournalSeq: p.last, Attempts: []Attempt{}}
	for _, o := range p.ops {
		if o.status != op.Executing {
			continue
		}
		a := Attempt{
			OpID: o.id, OpType: o.opType, Target: o.target, Priority: o.priority, Partition: o.partition,
			Attempt: o.attempt, GrantedAt: o.granted, LeaseEnds: o.lease,
		}
		if part := p.partitions[o.partition]; part != nil {
			a.Owner = part.Owner
		}
		if !o.beaten.IsZero() {
			at := o.beaten
			a.BeatenAt = &at
		}
		x.Attempts = append(x.Attempts, a)
	}
	slices.SortFunc(x.Attempts, func(a, b Attempt) int {
		return cmp.Or(a.LeaseEnds.Compare(b.LeaseEnds), cmp.Compare(a.OpID, b.OpID))
	})
	return x
}

// Executing is what executes as far as this observer has read the journal.
func (o *Observer) Executing() Executing {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.p.executing()
}

// ReadExecuting reads the whole journal to find what executes. It needs no
// observer, and takes as long as one takes to start.
func ReadExecuting(ctx context.Context, b *bus.Bus) (Executing, error) {
	p := newProjection((*metrics.Registry)(nil).Observer())
	for e, err := range b.JournalRead(ctx, -1, 0) {
		if err != nil {
			return Executing{}, fmt.Errorf("observer: journal: %w", err)
		}
		s, err := decode(&e)
		if err != nil {
			return Executing{}, err
		}
		p.apply(e.Seq, e.Time, s)
	}
	return p.executing(), ctx.Err()
}

// RecoveryType is the value of "type" in a [Recovery].
const RecoveryType = "ops.v1.recovery"

// AttemptState says how an attempt stands with its lease.
type AttemptState string

// The states of an attempt. One that is overdue is taken back by the owner of its
// partition, or by whoever takes the partition over. One that is stuck should
// have been: nobody owns the partition, or the owner does not work.
const (
	AttemptRunning AttemptState = "running"
	AttemptOverdue AttemptState = "overdue"
	AttemptStuck   AttemptState = "stuck"
)

// Recovery answers the original's recover_system_state: it says what the
// resolvers do by themselves, and whether they do it.
type Recovery struct {
	Type      string            `json:"type"` // RecoveryType
	At        time.Time         `json:"at"`   // by the server's clock
	Bound     float64           `json:"failover_bound_seconds"`
	Resolvers []string          `json:"resolvers"` // alive by their leases
	Attempts  []RecoveryAttempt `json:"attempts"`
	Stuck     int               `json:"stuck"`
}

// RecoveryAttempt is one attempt and how it stands.
type RecoveryAttempt struct {
	Attempt
	State AttemptState `json:"state"`
	// Left is the rest of its lease in seconds, below zero if it is over.
	Left float64 `json:"lease_left_seconds"`
}

// Recover judges what executes at an instant of the server's clock. bound is how
// long it may take until somebody takes back an attempt whose lease is over. It
// is a function of its arguments.
func Recover(x Executing, resolvers []string, now time.Time, bound time.Duration) *Recovery {
	r := &Recovery{Type: RecoveryType, At: now.UTC(), Bound: bound.Seconds(), Resolvers: resolvers, Attempts: []RecoveryAttempt{}}
	for _, a := range x.Attempts {
		left := a.LeaseEnds.Sub(now)
		ra := RecoveryAttempt{Attempt: a, State: AttemptRunning, Left: left.Seconds()}
		switch {
		case left < -bound:
			ra.State = AttemptStuck
			r.Stuck++
		case left <= 0:
			ra.State = AttemptOverdue
		}
		r.Attempts = append(r.Attempts, ra)
	}
	return r
}
