package arbiter

import "time"

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
	MaxStaged       int                      `json:"max_staged_per_target"` // the lowest rank above it is shed
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
	}
}
