package arbiter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
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
	MaxStaged       int                      `json:"max_staged_per_target"`       // the lowest rank above it is shed
	MaxExecuting    int                      `json:"max_executing_per_partition"` // more winners wait; with 16 partitions the seeds' 1,000 in all
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
	}
}

// policyJSON is a policy as operators write it: the seeds' names, durations as
// strings.
type policyJSON struct {
	StagingWindow   *duration           `json:"staging_window,omitempty"`
	CheckInterval   *duration           `json:"conflict_check_interval,omitempty"` // the seeds' name for staging_window
	WindowByType    map[string]duration `json:"window_by_type,omitempty"`
	WindowByPrefix  map[string]duration `json:"window_by_prefix,omitempty"`
	GracePeriod     *duration           `json:"grace_period,omitempty"`
	AttemptTimeout  *duration           `json:"attempt_timeout,omitempty"`
	MaxRetries      *int                `json:"default_max_retries,omitempty"`
	RetryBase       *duration           `json:"retry_base_delay,omitempty"`
	RetryMax        *duration           `json:"retry_max_delay,omitempty"`
	MaxOperationAge *duration           `json:"max_operation_age,omitempty"`
	MaxStaged       *int                `json:"max_staged_per_target,omitempty"`
	MaxExecuting    *int                `json:"max_executing_per_partition,omitempty"`
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
// rule that is silently ignored is worse than none.
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
	set := func(to *time.Duration, from *duration) {
		if from != nil {
			*to = time.Duration(*from)
		}
	}
	set(&p.StagingWindow, in.CheckInterval)
	set(&p.StagingWindow, in.StagingWindow)
	set(&p.GracePeriod, in.GracePeriod)
	set(&p.AttemptTimeout, in.AttemptTimeout)
	set(&p.RetryBase, in.RetryBase)
	set(&p.RetryMax, in.RetryMax)
	set(&p.MaxOperationAge, in.MaxOperationAge)
	p.WindowByType, p.WindowByPrefix = plain(in.WindowByType), plain(in.WindowByPrefix)
	if in.MaxRetries != nil {
		p.MaxRetries = *in.MaxRetries
	}
	if in.MaxStaged != nil {
		p.MaxStaged = *in.MaxStaged
	}
	if in.MaxExecuting != nil {
		p.MaxExecuting = *in.MaxExecuting
	}
	return p, p.check()
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

// MaxPolicyBytes bounds a policy, which is part of a journal step.
const MaxPolicyBytes = 64 << 10

// MaxStagedLimit keeps the decision about one staging area within one message.
const MaxStagedLimit = 2000

func (p *Policy) check() error {
	switch {
	case p.MaxStaged < 1 || p.MaxStaged > MaxStagedLimit:
		return fmt.Errorf("arbiter: policy: max_staged_per_target must lie in 1..%d", MaxStagedLimit)
	case p.MaxExecuting < 1:
		return errors.New("arbiter: policy: max_executing_per_partition must be at least 1")
	case p.AttemptTimeout < 100*time.Millisecond:
		return errors.New("arbiter: policy: attempt_timeout must be at least 100ms")
	case p.MaxRetries < 0 || p.MaxRetries > 1000:
		return errors.New("arbiter: policy: default_max_retries must lie in 0..1000")
	case p.RetryBase <= 0 || p.RetryMax < p.RetryBase:
		return errors.New("arbiter: policy: retry_base_delay must be positive and retry_max_delay not below it")
	case p.MaxOperationAge <= 0:
		return errors.New("arbiter: policy: max_operation_age must be positive")
	}
	return nil
}
