package observer

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// StatsType is the value of "type" in [Stats].
const StatsType = "ops.v1.stats"

// backlogListed is how many targets [Stats] names.
const backlogListed = 10

// Tally counts operations. The names are those of the original's
// HierarchyMetrics.
type Tally struct {
	Submitted uint64 `json:"operations_submitted"`
	Completed uint64 `json:"operations_completed"`
	Rejected  uint64 `json:"operations_rejected"`
	Cancelled uint64 `json:"operations_cancelled"`
	Failed    uint64 `json:"operations_failed"`  // attempts
	Retried   uint64 `json:"operations_retried"` // returns after a delay
}

// Open is the number of operations without a terminal record.
func (t Tally) Open() uint64 { return t.Submitted - t.Completed - t.Rejected - t.Cancelled }

// Totals are the counters over everything that the journal holds.
type Totals struct {
	Tally
	Repeated             uint64 `json:"operations_repeated"`
	Lapsed               uint64 `json:"attempts_lapsed"`
	Preempted            uint64 `json:"operations_preempted"`
	Coalesced            uint64 `json:"operations_coalesced"` // shared, or will share, the outcome of another
	GivenUp              uint64 `json:"operations_given_up"`  // rejected as max_retries or terminal_error
	Decisions            uint64 `json:"decisions"`
	ConflictsDetected    uint64 `json:"conflicts_detected"`
	ConflictsResolved    uint64 `json:"conflicts_resolved"`
	GraceSaves           uint64 `json:"grace_period_saves"`
	ExecutingProtections uint64 `json:"executing_protections"`
	EntityChanges        uint64 `json:"entity_changes"`
	VersionsCreated      uint64 `json:"versions_created"`
	Invalid              uint64 `json:"invalid_submissions"`
	StaleResults         uint64 `json:"stale_results_refused"`
	CancelsRefused       uint64 `json:"cancels_refused"`
	Takeovers            uint64 `json:"takeovers"`
	Steps                uint64 `json:"steps"`
	ProcessedEvents      uint64 `json:"processed_events"` // inputs and effects of all steps
	Unreadable           uint64 `json:"unreadable_steps"`
	Violations           uint64 `json:"invariant_violations"` // found by the live audit
	// Unaudited says why the live audit has ended, or never began: from then on
	// Violations says nothing. "": it goes on.
	Unaudited string `json:"unaudited,omitempty"`
}

// Stats is the projection at one instant: the original's HierarchyMetrics and
// what belongs to them.
type Stats struct {
	Type string    `json:"type"` // StatsType
	At   time.Time `json:"at"`
	Totals
	AverageResolution float64 `json:"average_resolution_time"` // seconds, from the detection of a conflict to its decision
	Throughput        float64 `json:"throughput_ops_per_sec"`
	MemoryMB          float64 `json:"memory_usage_mb"`   // of the observer's process
	CPUPercent        float64 `json:"cpu_usage_percent"` // of the observer's process; 100 is one core

	Pending         int     `json:"pending_count"`
	Executing       int     `json:"executing_count"`
	OldestPending   float64 `json:"oldest_pending_seconds"`
	OldestExecuting float64 `json:"oldest_executing_seconds"`
	// Overdue is for how long the lease of an executing attempt has been over,
	// of the one for which that is longest.
	Overdue       float64 `json:"overdue_seconds"`
	StagedTargets int     `json:"staged_targets"`
	// Balanced is true when submitted = completed + rejected + cancelled + open
	// holds for the operations followed one by one.
	Balanced bool `json:"balanced"`

	ByType     map[string]Tally     `json:"by_type"`
	ByPriority map[string]Tally     `json:"by_priority"`
	ByReason   map[op.Reason]uint64 `json:"by_reason"`
	// Starvation is who waits and loses, by priority.
	Starvation map[string]Starvation `json:"starvation"`
	Backlog    []Backlog             `json:"backlog"`    // the largest staging areas
	Partitions []PartitionStats      `json:"partitions"` // in order
	Policy     uint64                `json:"policy_revision"`
	JournalSeq uint64                `json:"journal_seq"`
	JournalAt  time.Time             `json:"journal_at"` // when the server stored that entry
}

// Starvation is how the operations of one priority fare that do not get their
// turn. A stream of stronger ones can keep them waiting until their deadline.
type Starvation struct {
	Waiting  int     `json:"waiting"`        // pending operations
	Oldest   float64 `json:"oldest_seconds"` // since the acceptance of the oldest of them
	Lost     uint64  `json:"lost"`           // decisions lost, by those that have ended as well
	MostLost int     `json:"most_lost"`      // by one that still waits
}

// Backlog is one target with staged operations.
type Backlog struct {
	Target    string `json:"target_entity_id"`
	Staged    int    `json:"staged"`
	Executing string `json:"executing,omitempty"` // operation
}

// PartitionStats is what the journal says about one partition.
type PartitionStats struct {
	Partition int       `json:"partition"`
	Owner     string    `json:"owner"`
	Epoch     uint64    `json:"epoch"`
	Step      uint64    `json:"step"`
	Cursor    uint64    `json:"cursor"`
	Takeovers uint64    `json:"takeovers"`
	At        time.Time `json:"at"` // of the last step
}

// stats takes the projection as it is. now is only used for ages and rates.
func (p *projection) stats(now time.Time) Stats {
	s := Stats{
		Type: StatsType, At: now.UTC(), Totals: p.total, Throughput: p.ended.perSecond(now),
		ByType: map[string]Tally{}, ByPriority: map[string]Tally{}, ByReason: maps.Clone(p.byReason),
		Policy: p.policyRev, JournalSeq: p.last, JournalAt: p.lastAt,
	}
	if n := p.total.ConflictsResolved; n > 0 {
		s.AverageResolution = (p.resolving / time.Duration(n)).Seconds()
	}
	for name, t := range p.byType {
		s.ByType[name] = *t
	}
	for priority, t := range p.byPriority {
		s.ByPriority[priority.String()] = *t
	}
	for _, n := range slices.Sorted(maps.Keys(p.partitions)) {
		s.Partitions = append(s.Partitions, p.partitions[n].PartitionStats)
	}
	p.ages(&s, now)
	s.Starvation = p.starvation(now)
	s.Balanced = s.Open() == uint64(len(p.ops)+p.untracked)
	s.Backlog, s.StagedTargets = p.backlog()
	return s
}

// ages counts the open operations and finds the oldest.
func (p *projection) ages(s *Stats, now time.Time) {
	pending, executing := now, now
	for _, o := range p.ops {
		if o.status == op.Executing {
			s.Executing++
			if !o.lease.IsZero() {
				s.Overdue = max(s.Overdue, now.Sub(o.lease).Seconds())
			}
			if o.granted.Before(executing) {
				executing = o.granted
			}
			continue
		}
		s.Pending++
		if o.accepted.Before(pending) {
			pending = o.accepted
		}
	}
	s.Pending += p.untracked
	s.OldestPending, s.OldestExecuting = now.Sub(pending).Seconds(), now.Sub(executing).Seconds()
}

// starvation sums up who waits, by priority.
func (p *projection) starvation(now time.Time) map[string]Starvation {
	all := map[string]Starvation{}
	for priority := range p.byPriority {
		all[priority.String()] = Starvation{Lost: p.priorityLosses[priority]}
	}
	for _, o := range p.ops {
		if o.status == op.Executing {
			continue
		}
		name := o.priority.String()
		s := all[name]
		s.Waiting++
		s.Oldest = max(s.Oldest, now.Sub(o.accepted).Seconds())
		s.MostLost = max(s.MostLost, o.lost)
		all[name] = s
	}
	return all
}

// backlog lists the largest staging areas, largest first.
func (p *projection) backlog() (top []Backlog, staged int) {
	top = []Backlog{}
	larger := func(a, b Backlog) int {
		return cmp.Or(cmp.Compare(b.Staged, a.Staged), cmp.Compare(a.Target, b.Target))
	}
	for id, t := range p.targets {
		if t.staged == 0 {
			continue
		}
		staged++
		b := Backlog{Target: id, Staged: t.staged}
		if t.executing != nil {
			b.Executing = t.executing.id
		}
		if at, _ := slices.BinarySearchFunc(top, b, larger); at < backlogListed {
			top = slices.Insert(top, at, b)
			top = top[:min(len(top), backlogListed)]
		}
	}
	return top, staged
}

// gauges sets the metrics that are states and not counts.
func (p *projection) gauges(s *Stats) {
	p.m.Throughput.Set(s.Throughput)
	p.m.Open.WithLabelValues(string(op.Pending)).Set(float64(s.Pending))
	p.m.Open.WithLabelValues(string(op.Executing)).Set(float64(s.Executing))
	p.m.StagedTargets.Set(float64(s.StagedTargets))
	largest := 0
	if len(s.Backlog) > 0 {
		largest = s.Backlog[0].Staged
	}
	p.m.LargestStagingArea.Set(float64(largest))
	p.m.OldestPending.Set(s.OldestPending)
	p.m.OldestExecuting.Set(s.OldestExecuting)
	p.m.JournalSeq.Set(float64(s.JournalSeq))
	for priority, x := range s.Starvation {
		p.m.Waiting.WithLabelValues(priority).Set(float64(x.Waiting))
		p.m.OldestWaiting.WithLabelValues(priority).Set(x.Oldest)
	}
}
