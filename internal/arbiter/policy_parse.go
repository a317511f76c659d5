package arbiter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Bounds of a policy, which is part of a journal step.
const (
	MaxPolicyBytes = 64 << 10 // as operators write it
	// MaxStagedLimit keeps the decision about one staging area within one message.
	MaxStagedLimit = 2000
)

// policyJSON is a policy as operators write it: the seeds' names, durations as
// strings.
type policyJSON struct {
	StagingWindow    *duration           `json:"staging_window"`
	CheckInterval    *duration           `json:"conflict_check_interval"` // the seeds' name for staging_window
	WindowByType     map[string]duration `json:"window_by_type"`
	WindowByPrefix   map[string]duration `json:"window_by_prefix"`
	GracePeriod      *duration           `json:"grace_period"`
	AttemptTimeout   *duration           `json:"attempt_timeout"`
	MaxRetries       *int                `json:"default_max_retries"`
	RetryBase        *duration           `json:"retry_base_delay"`
	RetryMax         *duration           `json:"retry_max_delay"`
	MaxOperationAge  *duration           `json:"max_operation_age"`
	MaxStaged        *int                `json:"max_staged_per_target"`
	MaxExecuting     *int                `json:"max_executing_per_partition"`
	MaxConcurrent    *int                `json:"max_concurrent_operations"`
	MaxOpen          *int                `json:"operation_queue_size"`
	EventBuffer      *int                `json:"event_bus_buffer_size"`
	MetricsInterval  *duration           `json:"metrics_collection_interval"`
	MaxMemoryMB      *int                `json:"max_memory_mb"`
	Preemption       string              `json:"preemption"`
	MaxPreemptions   *int                `json:"max_preemptions"`
	Aging            *agingJSON          `json:"aging"`
	Paused           Paused              `json:"paused"`
	PriorityOutRange string              `json:"priority_out_of_range"`
	Submitters       map[string]Range    `json:"submitters"`
	Types            map[string]typeJSON `json:"types"`
}

type agingJSON struct {
	Every duration `json:"every"`
	Step  int      `json:"step"`
	Max   int      `json:"max"`
}

type typeJSON struct {
	Schema         json.RawMessage `json:"schema"`
	Pool           string          `json:"pool"`
	Priority       op.Priority     `json:"priority"`
	MinPriority    op.Priority     `json:"min_priority"`
	MaxPriority    op.Priority     `json:"max_priority"`
	MaxRetries     *int            `json:"max_retries"`
	OnConflict     op.Conflict     `json:"on_conflict"`
	StagingWindow  *duration       `json:"staging_window"` // short for an entry of window_by_type
	AttemptTimeout duration        `json:"attempt_timeout"`
}

type duration time.Duration

// UnmarshalJSON reads a Go duration string such as "10ms".
func (d *duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a duration is a string such as %q, not %.40s", "10ms", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%.40q is not a duration such as %q", s, "10ms")
	}
	*d = duration(v)
	return nil
}

// ParsePolicy reads a policy as operators write it and fills the defaults. A
// field that is not known and a value outside its range are refused, because a
// rule that is silently ignored is worse than none. Whether the schemas in it are
// schemas is not asked here: see internal/registry.
func ParsePolicy(data []byte, revision uint64) (Policy, error) {
	p := DefaultPolicy()
	p.Revision = revision
	if len(data) == 0 {
		return p, nil
	}
	if len(data) > MaxPolicyBytes {
		return p, fmt.Errorf("arbiter: policy: %d bytes, at most %d are allowed", len(data), MaxPolicyBytes)
	}
	var in policyJSON
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return p, fmt.Errorf("arbiter: policy: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) { // not More, which a closing brace satisfies
		return p, fmt.Errorf("arbiter: policy: there is something after the object")
	}
	if in.MaxConcurrent != nil && (in.MaxExecuting != nil || *in.MaxConcurrent < 1) {
		return p, fmt.Errorf("arbiter: policy: max_concurrent_operations must be at least 1, and max_executing_per_partition not be given as well")
	}
	in.fill(&p)
	if err := in.words(&p); err != nil {
		return p, fmt.Errorf("arbiter: policy: %w", err)
	}
	if err := p.check(); err != nil {
		return p, fmt.Errorf("arbiter: policy: %w", err)
	}
	return p, nil
}

// fill takes over what is given.
func (in *policyJSON) fill(p *Policy) {
	for _, d := range []struct {
		to   *time.Duration
		from *duration
	}{
		{&p.StagingWindow, in.CheckInterval},
		{&p.StagingWindow, in.StagingWindow}, // of the two names, ours counts
		{&p.GracePeriod, in.GracePeriod},
		{&p.AttemptTimeout, in.AttemptTimeout},
		{&p.RetryBase, in.RetryBase},
		{&p.RetryMax, in.RetryMax},
		{&p.MaxOperationAge, in.MaxOperationAge},
		{&p.Roles.MetricsInterval, in.MetricsInterval},
	} {
		if d.from != nil {
			*d.to = time.Duration(*d.from)
		}
	}
	for _, n := range []struct{ to, from *int }{
		{&p.MaxRetries, in.MaxRetries},
		{&p.MaxStaged, in.MaxStaged},
		{&p.MaxExecuting, in.MaxExecuting},
		{&p.MaxConcurrent, in.MaxConcurrent},
		{&p.MaxOpen, in.MaxOpen},
		{&p.Roles.EventBuffer, in.EventBuffer},
		{&p.Roles.MaxMemoryMB, in.MaxMemoryMB},
		{&p.MaxPreemptions, in.MaxPreemptions},
	} {
		if n.from != nil {
			*n.to = *n.from
		}
	}
	p.WindowByType, p.WindowByPrefix = plain(in.WindowByType), plain(in.WindowByPrefix)
	p.Paused, p.Submitters = in.Paused, in.Submitters
	if a := in.Aging; a != nil {
		p.Aging = Aging{Every: time.Duration(a.Every), Step: a.Step, Max: a.Max}
	}
}

// words reads what is not a number: choices and the registry.
func (in *policyJSON) words(p *Policy) error {
	switch in.Preemption {
	case "", "never":
	case "after_grace":
		p.Preemption = true
	default:
		return fmt.Errorf("preemption %.40q is neither never nor after_grace", in.Preemption)
	}
	switch in.PriorityOutRange {
	case "", "clamp":
	case "refuse":
		p.RefusePriority = true
	default:
		return fmt.Errorf("priority_out_of_range %.40q is neither clamp nor refuse", in.PriorityOutRange)
	}
	for _, name := range slices.Sorted(maps.Keys(in.Types)) {
		t := in.Types[name]
		if t.StagingWindow != nil {
			if _, twice := p.WindowByType[name]; twice {
				return fmt.Errorf("types.%s.staging_window and window_by_type.%s are both given", name, name)
			}
			if p.WindowByType == nil {
				p.WindowByType = map[string]time.Duration{}
			}
			p.WindowByType[name] = time.Duration(*t.StagingWindow)
		}
		if p.Types == nil {
			p.Types = map[string]TypePolicy{}
		}
		p.Types[name] = TypePolicy{
			Schema: t.Schema, Pool: t.Pool, Priority: t.Priority, Range: Range{Min: t.MinPriority, Max: t.MaxPriority},
			MaxRetries: t.MaxRetries, OnConflict: t.OnConflict, AttemptTimeout: time.Duration(t.AttemptTimeout),
		}
	}
	return nil
}

func plain(in map[string]duration) map[string]time.Duration {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]time.Duration, len(in))
	for _, k := range slices.Sorted(maps.Keys(in)) {
		out[k] = time.Duration(in[k])
	}
	return out
}

// check asks for the ranges of all values.
func (p *Policy) check() error {
	switch {
	case p.MaxStaged < 1 || p.MaxStaged > MaxStagedLimit:
		return fmt.Errorf("max_staged_per_target must lie in 1..%d", MaxStagedLimit)
	case p.MaxExecuting < 1:
		return fmt.Errorf("max_executing_per_partition must be at least 1")
	case p.MaxOpen < 1:
		return fmt.Errorf("operation_queue_size must be at least 1")
	case p.AttemptTimeout < minTimeout:
		return fmt.Errorf("attempt_timeout must be at least %s", minTimeout)
	case p.MaxRetries < 0 || p.MaxRetries > op.MaxRetry:
		return fmt.Errorf("default_max_retries must lie in 0..%d", op.MaxRetry)
	case p.RetryBase <= 0 || p.RetryMax < p.RetryBase:
		return fmt.Errorf("retry_base_delay must be positive and retry_max_delay not below it")
	case p.MaxOperationAge <= 0:
		return fmt.Errorf("max_operation_age must be positive")
	case p.MaxPreemptions < 0:
		return fmt.Errorf("max_preemptions must not be negative")
	}
	if err := p.Aging.check(); err != nil {
		return err
	}
	if err := p.Roles.check(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(p.Submitters)) {
		if err := p.Submitters[name].check(); err != nil {
			return fmt.Errorf("submitters.%s: %w", name, err)
		}
	}
	for _, t := range p.Paused.Targets {
		if !op.Token(strings.TrimSuffix(t, "*")) && t != "*" {
			return fmt.Errorf("paused.targets: %.80q is neither a target nor a prefix followed by *", t)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Types)) {
		t := p.Types[name]
		if err := t.check(name); err != nil {
			return fmt.Errorf("types.%s: %w", name, err)
		}
	}
	return nil
}

// Bounds of what the processes keep to.
const (
	maxEventBuffer = 1_000_000
	minMemoryMB    = 64
)

// minTimeout keeps a lease longer than the way to an executor and back.
const minTimeout = 100 * time.Millisecond

func (a Aging) check() error {
	switch {
	case a.Every > 0 && (a.Step < 1 || a.Max < 1 || a.Max > 9):
		return fmt.Errorf("aging.step must be at least 1 and aging.max lie in 1..9")
	case a.Every == 0 && a != Aging{}:
		return fmt.Errorf("aging.every must be positive")
	}
	return nil
}

func (r RolePolicy) check() error {
	switch {
	case r.EventBuffer < 1 || r.EventBuffer > maxEventBuffer:
		return fmt.Errorf("event_bus_buffer_size must lie in 1..%d", maxEventBuffer)
	case r.MetricsInterval < minTimeout:
		return fmt.Errorf("metrics_collection_interval must be at least %s", minTimeout)
	case r.MaxMemoryMB < minMemoryMB:
		return fmt.Errorf("max_memory_mb must be at least %d", minMemoryMB)
	}
	return nil
}

func (r Range) check() error {
	if r.Min > 0 && r.Max > 0 && r.Min > r.Max {
		return fmt.Errorf("the least priority %d is above the greatest, %d", r.Min, r.Max)
	}
	return nil
}

func (t *TypePolicy) check(name string) error {
	preset, isBuiltin := builtin[name]
	switch {
	case !op.Token(name):
		return fmt.Errorf("the name is not a token of 1 to %d characters", op.MaxToken)
	case preset.Internal:
		return fmt.Errorf("the type belongs to the system")
	case isBuiltin && t.Schema != nil:
		return fmt.Errorf("a built-in type has a schema of its own")
	case isBuiltin && t.Pool != "":
		return fmt.Errorf("a built-in type is served by every executor of the pool %s", op.DefaultPool)
	case t.Pool != "" && !op.Token(t.Pool):
		return fmt.Errorf("pool %.80q is not a token", t.Pool)
	case t.MaxRetries != nil && (*t.MaxRetries < 0 || *t.MaxRetries > op.MaxRetry):
		return fmt.Errorf("max_retries must lie in 0..%d", op.MaxRetry)
	case t.AttemptTimeout != 0 && t.AttemptTimeout < minTimeout:
		return fmt.Errorf("attempt_timeout must be at least %s", minTimeout)
	}
	switch t.OnConflict {
	case "", op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry, op.OnConflictSupersede, op.OnConflictCoalesce:
	default:
		return fmt.Errorf("on_conflict %.40q is none of reject, queue, retry, supersede and coalesce", t.OnConflict)
	}
	return t.Range.check()
}
