package observer

import (
	"fmt"
	"time"
)

// HealthType is the value of "type" in [Health].
const HealthType = "ops.v1.health"

// HealthStatus is how well the system, or a part of it, does.
type HealthStatus string

// The statuses, best first. Degraded: it works, and somebody should look. Failed:
// it does not do its work.
const (
	Healthy  HealthStatus = "healthy"
	Degraded HealthStatus = "degraded"
	Broken   HealthStatus = "failed"
)

// HealthStatuses lists them, best first.
func HealthStatuses() []HealthStatus { return []HealthStatus{Healthy, Degraded, Broken} }

// Health is the original's system_health_check. The status is the worst of the
// checks, and Reasons says why it is not healthy.
type Health struct {
	Type    string       `json:"type"` // HealthType
	Status  HealthStatus `json:"status"`
	Reasons []string     `json:"reasons,omitempty"`
	At      time.Time    `json:"at"`
	Checks  Checks       `json:"checks"`
}

// Checks are the parts of [Health].
type Checks struct {
	EventBus   EventBusCheck   `json:"event_bus"`
	Registry   RegistryCheck   `json:"ecs_registry"`
	Operations OperationsCheck `json:"operations"`
}

// EventBusCheck is about the log and those who read it.
type EventBusCheck struct {
	Status HealthStatus `json:"status"`
	// QueueSize is how many messages of the intake are certainly not consumed.
	QueueSize       uint64  `json:"queue_size"`
	ProcessedEvents uint64  `json:"processed_events"` // inputs and effects of all steps
	Lag             float64 `json:"lag_seconds"`      // of this observer behind the journal
	Resolvers       int     `json:"resolvers"`        // alive by their leases
}

// RegistryCheck is about the entities.
type RegistryCheck struct {
	Status      HealthStatus `json:"status"`
	EntityCount uint64       `json:"entity_count"`
	MemoryUsage uint64       `json:"memory_usage"` // bytes stored
}

// OperationsCheck is about the work.
type OperationsCheck struct {
	Status            HealthStatus `json:"status"`
	PendingCount      int          `json:"pending_count"`
	ExecutingCount    int          `json:"executing_count"`
	AverageResolution float64      `json:"average_resolution_time"` // seconds
	OldestPending     float64      `json:"oldest_pending_seconds"`
	DeadLetters       int          `json:"dead_letters"` // given up and not tried again
}

// Thresholds of the health check.
const (
	lagDegraded     = 5 * time.Second
	probeOld        = 30 * time.Second // without news of the server
	pendingDegraded = 10_000           // the original's operation_queue_size
	intakeDegraded  = 0.9              // of its limit
	overdueDegraded = 15 * time.Second // after a lease: a failover takes less
)

// vitals is what a health check judges: facts, gathered before.
type vitals struct {
	now    time.Time
	caught bool // the observer has read the journal up to its start
	stats  Stats
	probe  probe
}

// behind is how old the last entry is that this observer has read, if the journal
// had more when the server was asked.
func (v *vitals) behind() time.Duration {
	if v.probe.journalLast <= v.stats.JournalSeq || v.stats.JournalAt.IsZero() {
		return 0
	}
	return max(v.now.Sub(v.stats.JournalAt), 0)
}

// judge computes the health. It is pure.
func judge(v *vitals) Health {
	h := Health{Type: HealthType, Status: Healthy, At: v.now.UTC()}
	h.Checks.EventBus.Status = h.worst(v.judgeBus())
	h.Checks.Registry.Status = h.worst(v.judgeRegistry())
	h.Checks.Operations.Status = h.worst(v.judgeOperations())
	h.Checks.EventBus.QueueSize, h.Checks.EventBus.ProcessedEvents = v.probe.queued, v.stats.ProcessedEvents
	h.Checks.EventBus.Lag, h.Checks.EventBus.Resolvers = v.behind().Seconds(), v.probe.resolvers
	h.Checks.Registry.EntityCount, h.Checks.Registry.MemoryUsage = v.probe.entities, v.probe.entityBytes
	o := &h.Checks.Operations
	o.PendingCount, o.ExecutingCount, o.AverageResolution = v.stats.Pending, v.stats.Executing, v.stats.AverageResolution
	o.OldestPending, o.DeadLetters = v.stats.OldestPending, v.probe.dead
	return h
}

// finding is one thing that is not as it should be.
type finding struct {
	status HealthStatus
	why    string
}

// worst returns the worst status of some findings and notes them.
func (h *Health) worst(found []finding) HealthStatus {
	status := Healthy
	for _, f := range found {
		status = worse(status, f.status)
		h.Reasons = append(h.Reasons, f.why)
	}
	h.Status = worse(h.Status, status)
	return status
}

func worse(a, b HealthStatus) HealthStatus {
	rank := map[HealthStatus]int{Healthy: 0, Degraded: 1, Broken: 2}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

func (v *vitals) judgeBus() []finding {
	var found []finding
	p := &v.probe
	switch {
	case p.at.IsZero() && p.err == nil:
		found = append(found, finding{Degraded, "the server has not been asked yet"})
	case p.err != nil && v.now.Sub(p.good) > probeOld:
		found = append(found, finding{Broken, "the server does not answer: " + p.err.Error()})
	case p.err != nil:
		found = append(found, finding{Degraded, "the server did not answer the last question: " + p.err.Error()})
	case p.resolvers == 0:
		found = append(found, finding{Broken, "no resolver is alive: submissions are stored, but nothing is decided"})
	}
	if !v.caught {
		found = append(found, finding{Degraded, "this observer is still reading the journal from its beginning"})
	} else if behind := v.behind(); behind > lagDegraded {
		found = append(found, finding{Degraded, fmt.Sprintf("this observer is %s behind the journal, so its numbers are old", tell(behind))})
	}
	if p.intakeFull >= intakeDegraded {
		found = append(found, finding{Degraded, fmt.Sprintf("the intake is %.0f %% full; beyond its limit submissions are refused", p.intakeFull*100)})
	}
	if v.caught && v.behind() <= lagDegraded { // else it may be us who stand still
		for _, n := range p.stalled {
			found = append(found, finding{Degraded, fmt.Sprintf("partition %d has submissions waiting and does not move", n)})
		}
	}
	if n := v.stats.Violations; n > 0 {
		found = append(found, finding{Degraded, fmt.Sprintf("the journal breaks %d invariants: `hierarchy verify` names them", n)})
	}
	if why := v.stats.Unaudited; why != "" {
		found = append(found, finding{Degraded, "the journal is not audited as it grows: " + why})
	}
	if n := v.stats.Unreadable; n > 0 {
		found = append(found, finding{Degraded, fmt.Sprintf("%d journal messages are of a schema that this release does not know", n)})
	}
	return found
}

func (v *vitals) judgeRegistry() []finding {
	p := &v.probe
	if !p.at.IsZero() && p.err == nil && !p.registry {
		return []finding{{Degraded, "the stream of the entities is missing"}}
	}
	return nil
}

func (v *vitals) judgeOperations() []finding {
	var found []finding
	if n := v.stats.Pending; n > pendingDegraded {
		found = append(found, finding{Degraded, fmt.Sprintf("%d operations are pending, more than %d", n, pendingDegraded)})
	}
	if over := v.stats.Overdue; over > overdueDegraded.Seconds() {
		found = append(found, finding{Degraded, fmt.Sprintf("the lease of an attempt ended %.0f s ago and nobody has taken it back", over)})
	}
	if v.caught && !v.stats.Balanced {
		found = append(found, finding{Degraded, "submitted operations are not the sum of those that ended and those that are open"})
	}
	return found
}
