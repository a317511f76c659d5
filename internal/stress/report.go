package stress

import (
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// ReportType is the value of "type" in a [Report].
const ReportType = "ops.v1.stress_report"

// Report is what a run amounts to.
type Report struct {
	Type      string        `json:"type"`
	Run       string        `json:"run"`
	Profile   string        `json:"profile"`
	Seed      uint64        `json:"seed"`
	StartedAt time.Time     `json:"started_at"`
	Submits   time.Duration `json:"submitting"` // how long the submissions took, in nanoseconds
	Elapsed   time.Duration `json:"elapsed"`    // until the last operation ended, in nanoseconds

	Submitted   int     `json:"submitted"`   // acknowledged by the log, each id once
	Refused     int     `json:"refused"`     // not acknowledged: the intake was full
	Repeated    int     `json:"repeated"`    // sent again because nobody knew the outcome
	Unaccounted int     `json:"unaccounted"` // acknowledged, but not in the journal, or with no end or several
	Unreadable  int     `json:"unreadable"`  // steps of the journal that could not be read
	Rate        float64 `json:"rate"`        // submitted a second
	FollowUps   int     `json:"follow_ups"`  // operations that the system derived for the run's structural changes
	Takeovers   int     `json:"takeovers"`   // of partitions, during the run
	Stale       int     `json:"stale"`       // results refused because their attempt was not the current one
	Preempted   int     `json:"preempted"`   // attempts that had to yield
	Shared      int     `json:"shared"`      // of those that succeeded: with an identical one

	Total      Row            `json:"total"`
	ByPriority []Row          `json:"by_priority"` // highest first
	ByType     map[string]Row `json:"by_type"`
	Reasons    map[string]int `json:"reasons"` // of the operations that were rejected or cancelled
	Decisions  int            `json:"decisions"`
	Process    Process        `json:"process"`
}

// Complete reports whether every acknowledged operation has exactly one end in
// the journal, all of which could be read.
func (r *Report) Complete() bool { return r.Unaccounted == 0 && r.Unreadable == 0 }

// Owns reports whether an operation is one of the run's. Its follow-ups have ids of
// their own.
func (r *Report) Owns(opID string) bool { return strings.HasPrefix(opID, r.Run+"-") }

func (r *run) result(ended time.Time, used Process) *Report {
	a := r.account
	rep := &Report{
		Type: ReportType, Run: r.Name, Profile: r.Profile.Name, Seed: r.Seed, StartedAt: r.started.UTC(),
		Submits: r.submitted.Sub(r.begun), Elapsed: ended.Sub(r.started),
		Submitted: len(a.fates), Refused: r.refused, Repeated: r.unknown, FollowUps: len(a.derived),
		Unreadable: a.bad, Takeovers: a.takeovers, Stale: a.stale, Preempted: a.preempted, Shared: a.shared, Decisions: a.decisions,
		ByPriority: a.rows(), ByType: map[string]Row{}, Reasons: map[string]int{},
		Process: used,
	}
	for _, f := range a.fates {
		rep.Total.count(f)
		row := rep.ByType[f.kind]
		row.count(f)
		rep.ByType[f.kind] = row
		if !f.asked || f.ends != 1 {
			rep.Unaccounted++
		}
		if f.status == op.Rejected || f.status == op.Cancelled {
			rep.Reasons[string(f.reason)]++
		}
	}
	rep.Total.Decision = summarise(a.latency)
	if s := rep.Submits.Seconds(); s > 0 {
		rep.Rate = float64(rep.Submitted) / s
	}
	return rep
}
