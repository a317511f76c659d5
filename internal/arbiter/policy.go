package arbiter

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Policy is every rule that an operator can set (contract §7). It reaches the
// machine as a recorded input, so that each decision names the revision it was
// made under. Durations are Go nanoseconds in the journal.
type Policy struct {
	Revision        uint64                   `json:"revision"` // of the key in OPS_CONFIG; 0 is the built-in default
	StagingWindow   time.Duration            `json:"staging_window"`
	WindowByType    map[string]time.Duration `json:"window_by_type,omitempty"`   // the shortest of the staged operations' windows counts
	WindowByPrefix  map[string]time.Duration `json:"window_by_prefix,omitempty"` // of the target; the longest matching prefix wins over the type
	GracePeriod     time.Duration            `json:"grace_period"`
	AttemptTimeout  time.Duration            `json:"attempt_timeout"`
	MaxRetries      int                      `json:"default_max_retries"`
	RetryBase       time.Duration            `json:"retry_base_delay"`
	RetryMax        time.Duration            `json:"retry_max_delay"`
	MaxOperationAge time.Duration            `json:"max_operation_age"`
	MaxStaged       int                      `json:"max_staged_per_target"`               // the lowest rank above it is shed
	MaxExecuting    int                      `json:"max_executing_per_partition"`         // more winners wait; with 16 partitions the seeds' 1,000 in all
	MaxConcurrent   int                      `json:"max_concurrent_operations,omitempty"` // in all partitions together; 0: max_executing_per_partition says it
	MaxOpen         int                      `json:"operation_queue_size"`                // operations without a terminal record in one partition; more are refused
	Preemption      bool                     `json:"preemption,omitempty"`                // after grace a stronger operation may take a preemptible one's place
	MaxPreemptions  int                      `json:"max_preemptions"`                     // of one operation
	Aging           Aging                    `json:"aging,omitzero"`
	Paused          Paused                   `json:"paused,omitzero"`
	RefusePriority  bool                     `json:"refuse_priority,omitempty"` // refuse what is out of range instead of clamping it
	Submitters      map[string]Range         `json:"submitters,omitempty"`      // priorities by submitter
	Types           map[string]TypePolicy    `json:"types,omitempty"`           // registered types, and overrides for built-in ones
	Roles           RolePolicy               `json:"roles,omitzero"`            // decides nothing
}

// RolePolicy is what the processes keep to beside the rules. No decision depends
// on it.
type RolePolicy struct {
	EventBuffer     int           `json:"event_bus_buffer_size"`       // most events of a trace
	MetricsInterval time.Duration `json:"metrics_collection_interval"` // of what an observer computes by the clock
	MaxMemoryMB     int           `json:"max_memory_mb"`               // soft limit of a resolver's process: it collects garbage harder
}

// For returns the policy for one of so many partitions: what is given for all of
// them together is divided, so that all may be used.
func (p Policy) For(partitions int) Policy {
	if p.MaxConcurrent > 0 {
		p.MaxExecuting = max(1, (p.MaxConcurrent+partitions-1)/partitions)
	}
	return p
}

// Aging lets the effective priority grow with waiting time (contract §3.6). It
// orders those that wait and never preempts. The zero value is off.
type Aging struct {
	Every time.Duration `json:"every"` // waiting time a boost; 0: off
	Step  int           `json:"step"`  // priority levels a boost
	Max   int           `json:"max"`   // most levels in all
}

// Paused names what an operator has stopped: operations that are pending wait,
// new ones are rejected.
type Paused struct {
	Types   []string `json:"types,omitempty"`
	Targets []string `json:"targets,omitempty"` // a target, or a prefix of targets that ends in *
}

// Range is a range of priorities; 0 leaves an end open.
type Range struct {
	Min op.Priority `json:"min,omitempty"`
	Max op.Priority `json:"max,omitempty"`
}

// clamp returns the priority of the range that is nearest to p.
func (r Range) clamp(p op.Priority) op.Priority {
	if r.Min > 0 {
		p = max(p, r.Min)
	}
	if r.Max > 0 {
		p = min(p, r.Max)
	}
	return p
}

// TypePolicy is what an operator says about one operation type. For a built-in
// type it overrides; any other name is registered by it (contract §4).
type TypePolicy struct {
	Schema         json.RawMessage `json:"schema,omitempty"`          // JSON Schema of params; not for built-in types
	Pool           string          `json:"pool,omitempty"`            // executors that serve it; "" is the default pool
	Priority       op.Priority     `json:"priority,omitempty"`        // default
	Range          Range           `json:"range,omitzero"`            // of the priority that may be asked for
	MaxRetries     *int            `json:"max_retries,omitempty"`     // default
	OnConflict     op.Conflict     `json:"on_conflict,omitempty"`     // of every operation of the type, whatever it asks for
	AttemptTimeout time.Duration   `json:"attempt_timeout,omitempty"` // instead of the general one
}

// Known reports whether operations of this type may be submitted: it is built in
// or registered.
func (p *Policy) Known(opType string) bool {
	if _, ok := builtin[opType]; ok {
		return true
	}
	_, ok := p.Types[opType]
	return ok
}

var builtin = op.BuiltinTypes()

// OpTypes returns the registry for decoding: the built-in types and the
// registered ones with their defaults. The map is the caller's.
func (p *Policy) OpTypes() op.Types {
	all := op.BuiltinTypes()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if info := all[name]; !info.Structural { // those have a preset of their own
			info.MaxRetries = p.MaxRetries
			all[name] = info
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Types)) {
		t := p.Types[name]
		info, ok := all[name]
		if !ok {
			info = op.TypeInfo{Name: name, Priority: op.Normal, MaxRetries: p.MaxRetries}
		}
		info.Pool, info.Schema = t.Pool, t.Schema
		if t.Priority > 0 {
			info.Priority = t.Priority
		}
		if t.MaxRetries != nil {
			info.MaxRetries = *t.MaxRetries
		}
		all[name] = info
	}
	return all
}

// Allowed returns the priority that an operation of this type and submitter has
// when it asks for p: the nearest one in both ranges, the submitter's counting
// more where they do not meet.
func (p *Policy) Allowed(opType, submitter string, asked op.Priority) op.Priority {
	allowed := p.Types[opType].Range.clamp(asked)
	if r, ok := p.Submitters[submitter]; ok {
		allowed = r.clamp(allowed)
	}
	return allowed
}

// Stops reports whether operations of this type on this target are paused.
func (p *Policy) Stops(opType, target string) bool {
	if slices.Contains(p.Paused.Types, opType) {
		return true
	}
	for _, t := range p.Paused.Targets {
		if prefix, ok := strings.CutSuffix(t, "*"); ok && strings.HasPrefix(target, prefix) || t == target {
			return true
		}
	}
	return false
}

// onConflict is what becomes of o when it loses: what the operator chose for its
// type, else what it asked for.
func (p *Policy) onConflict(o *op.Operation) op.Conflict {
	if c := p.Types[o.Type].OnConflict; c != "" {
		return c
	}
	return o.OnConflict
}

func (p *Policy) attemptTimeout(opType string) time.Duration {
	if t := p.Types[opType].AttemptTimeout; t > 0 {
		return t
	}
	return p.AttemptTimeout
}

// DefaultPolicy returns the seeds' defaults (contract §7).
func DefaultPolicy() Policy {
	return Policy{
		StagingWindow:   10 * time.Millisecond,
		GracePeriod:     100 * time.Millisecond,
		AttemptTimeout:  30 * time.Second,
		MaxRetries:      3,
		RetryBase:       100 * time.Millisecond,
		RetryMax:        5 * time.Second,
		MaxOperationAge: 24 * time.Hour,
		MaxStaged:       2000,
		MaxExecuting:    64,
		MaxOpen:         10_000,
		MaxPreemptions:  3,
		Roles:           RolePolicy{EventBuffer: 50_000, MetricsInterval: time.Second, MaxMemoryMB: 2000},
	}
}
