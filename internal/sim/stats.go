package sim

import (
	"fmt"
	"io"
	"reflect"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Stats count what has happened in a history, or in many. A run that shows no
// faults, or in which too little succeeds, shows nothing.
type Stats struct {
	Histories int

	// Faults of the log.
	Lost, Late, Unheard, Busy, InElection, Stale, Elections int
	Duplicates                                              int // publishes that were recognised by their id
	// Faults of messages without a log.
	Redelivered, LateReports, Dropped, AcksLost, LateAcks, Unanswered, Stalls int
	// Faults of processes.
	Crashes, Pauses, FalseClaims, WrongClocks int

	// What the resolvers made of it.
	Takeovers, TakeoversFailed int
	Deposed                    int // commits that were refused
	Unknown                    int // commits whose outcome stayed unknown,
	UnknownCommitted           int // and that turned out to be in the journal,
	UnknownNever               int // or never to be
	SettledCommitted           int // refused at first sight: an earlier copy of the same step was in
	Snapshots, SnapshotsRead   int
	Trims                      int

	// What became of the operations.
	Operations, Repeated, Acknowledged, Invalid    int
	Succeeded, Rejected, Cancelled                 int
	Steps, Decisions, Attempts, Retries, Lapsed    int
	Extended, Preempted, Protected, Refused        int
	FollowUps, Effects, Policies, Coalesced, Reads int
	ByReason                                       map[string]int
}

// add adds the counts of another history.
func (s *Stats) add(o *Stats) {
	v, w := reflect.ValueOf(s).Elem(), reflect.ValueOf(o).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.Int {
			v.Field(i).SetInt(v.Field(i).Int() + w.Field(i).Int())
		}
	}
	for reason, n := range o.ByReason {
		s.reason(reason, n)
	}
}

func (s *Stats) reason(reason string, n int) {
	if s.ByReason == nil {
		s.ByReason = map[string]int{}
	}
	s.ByReason[reason] += n
}

// Write writes the counts as text.
func (s *Stats) Write(w io.Writer) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		_, _ = fmt.Fprintf(w, "%-18s %v\n", v.Type().Field(i).Name, v.Field(i).Interface())
	}
}

// Missing names what never happened although it should have in many histories,
// and the shares of success that are too small to show anything.
func (s *Stats) Missing() []string {
	var missing []string
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Int && f.Int() == 0 {
			missing = append(missing, v.Type().Field(i).Name)
		}
	}
	for _, reason := range reasons {
		if s.ByReason[string(reason)] == 0 {
			missing = append(missing, "an end for "+string(reason))
		}
	}
	if 5*s.Succeeded < s.Operations {
		missing = append(missing, fmt.Sprintf("success: %d of %d operations", s.Succeeded, s.Operations))
	}
	if 10*s.Acknowledged < 5*(s.Operations-s.FollowUps) {
		missing = append(missing, fmt.Sprintf("acknowledgements: %d of %d submissions", s.Acknowledged, s.Operations-s.FollowUps))
	}
	return missing
}

// reasons are those that many histories must have seen.
var reasons = []op.Reason{
	op.LowerPriority, op.LaterSubmission, op.CancelledByRequest, op.CancelledWithParent, op.MaxRetries, op.TerminalError,
	op.StagingFull, op.Overloaded, op.Expired, op.StaleVersion, op.Superseded,
}
