package stress

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// fate is what the journal says about one operation of the run.
type fate struct {
	kind     string
	priority op.Priority
	asked    bool // the submission stands in the journal
	status   op.Status
	reason   op.Reason
	retries  int
	ends     int // terminal records
}

// accounting follows the operations of a run through the journal, the only
// witness that can be believed about all of them.
type accounting struct {
	fates     map[string]*fate
	derived   map[string]bool // follow-ups of the run
	stale     int             // results of attempts that were not the current ones
	preempted int
	shared    int
	takeovers int
	decisions int
	latency   []float64                 // ms, one a decision
	byRank    map[op.Priority][]float64 // ms, one a contender
	bad       int                       // steps that could not be read
}

func newAccounting() *accounting {
	return &accounting{fates: map[string]*fate{}, derived: map[string]bool{}, byRank: map[op.Priority][]float64{}}
}

// expect names an operation whose submission was acknowledged.
func (a *accounting) expect(o *op.Operation) {
	a.fates[o.ID] = &fate{kind: o.Type, priority: o.Priority}
}

// step takes one message of the journal, stored at the given instant.
func (a *accounting) step(stored time.Time, data []byte) {
	var s arbiter.Step
	if err := json.Unmarshal(data, &s); err != nil {
		a.bad++
		return
	}
	if s.Takeover {
		a.takeovers++
	}
	for i := range s.In {
		if sub := s.In[i].Submit; sub != nil {
			a.submitted(sub)
		}
	}
	for i := range s.Out {
		a.effect(stored, &s, &s.Out[i])
	}
}

// submitted notes an operation of the run, or one that follows from it. Others may
// use the system at the same time.
func (a *accounting) submitted(s *arbiter.Submit) {
	if f := a.fates[s.Operation.ID]; f != nil {
		f.asked = true
	} else if a.ours(s.CausedBy) {
		a.derived[s.Operation.ID] = true
	}
}

func (a *accounting) ours(opID string) bool { return a.fates[opID] != nil || a.derived[opID] }

func (a *accounting) effect(stored time.Time, s *arbiter.Step, e *arbiter.Effect) {
	switch {
	case e.Accepted != nil:
		a.becomes(e.Accepted.OpID, op.Pending, "")
	case e.Granted != nil:
		a.becomes(e.Granted.OpID, op.Executing, "")
	case e.Failed != nil:
		a.becomes(e.Failed.OpID, op.Failed, "")
	case e.Retry != nil:
		a.becomes(e.Retry.OpID, op.Pending, e.Retry.Reason)
		a.retried(e.Retry.OpID, e.Retry.RetryCount)
	case e.Lapsed != nil:
		a.becomes(e.Lapsed.OpID, op.Pending, "")
		a.retried(e.Lapsed.OpID, e.Lapsed.RetryCount)
	case e.Succeeded != nil:
		a.becomes(e.Succeeded.OpID, op.Succeeded, "")
	case e.Rejected != nil:
		a.becomes(e.Rejected.OpID, op.Rejected, e.Rejected.Reason)
	case e.Cancelled != nil:
		a.becomes(e.Cancelled.OpID, op.Cancelled, e.Cancelled.Reason)
	case e.Preempted != nil:
		a.becomes(e.Preempted.OpID, op.Pending, op.Preempted)
		if a.ours(e.Preempted.OpID) {
			a.preempted++
		}
	case e.Coalesced != nil:
		a.becomes(e.Coalesced.OpID, op.Pending, op.Coalesced)
	case e.Parted != nil:
		a.becomes(e.Parted.OpID, op.Pending, "")
	case e.Shared != nil:
		a.becomes(e.Shared.OpID, op.Succeeded, op.Coalesced)
		if a.ours(e.Shared.OpID) {
			a.shared++
		}
	case e.Refused != nil:
		if i := e.Refused.Input; a.ours(e.Refused.OpID) && i < len(s.In) && s.In[i].Result != nil {
			a.stale++
		}
	case e.Decision != nil:
		a.decided(stored, e.Decision)
	}
}

func (a *accounting) becomes(id string, s op.Status, r op.Reason) {
	f := a.fates[id]
	if f == nil {
		return
	}
	f.status, f.reason = s, r
	if s.Terminal() {
		f.ends++
	}
}

func (a *accounting) retried(id string, count int) {
	if f := a.fates[id]; f != nil {
		f.retries = count
	}
}

// decided measures from the instant at which the target could be resolved to
// the one at which the decision was durable.
func (a *accounting) decided(stored time.Time, d *op.Decision) {
	ms := float64(stored.Sub(d.WindowClosed)) / float64(time.Millisecond)
	ours := false
	for i := range d.Contenders {
		c := &d.Contenders[i]
		if a.fates[c.OpID] != nil {
			a.byRank[c.Priority] = append(a.byRank[c.Priority], ms)
			ours = true
		}
	}
	if ours {
		a.decisions++
		a.latency = append(a.latency, ms)
	}
}

// Latency sums up durations in milliseconds.
type Latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// summarise sorts ms in place. A percentile is the smallest value that so many
// per cent do not exceed.
func summarise(ms []float64) Latency {
	l := Latency{Count: len(ms)}
	if len(ms) == 0 {
		return l
	}
	slices.Sort(ms)
	at := func(q float64) float64 { return ms[max(0, int(math.Ceil(q*float64(len(ms))))-1)] }
	l.P50, l.P90, l.P99, l.Max = at(0.50), at(0.90), at(0.99), ms[len(ms)-1]
	return l
}

// Row is the fate of the operations of one priority.
type Row struct {
	Priority  op.Priority `json:"priority"`
	Submitted int         `json:"submitted"`
	Succeeded int         `json:"succeeded"`
	Rejected  int         `json:"rejected"`
	Retried   int         `json:"retried"` // of all: those that were retried at least once
	Cancelled int         `json:"cancelled"`
	Open      int         `json:"open"`
	Decision  Latency     `json:"decision"`
}

func (r *Row) count(f *fate) {
	r.Submitted++
	if f.retries > 0 {
		r.Retried++
	}
	switch f.status {
	case op.Succeeded:
		r.Succeeded++
	case op.Rejected:
		r.Rejected++
	case op.Cancelled:
		r.Cancelled++
	default:
		r.Open++
	}
}

// rows returns the table by priority, the highest first.
func (a *accounting) rows() []Row {
	by := map[op.Priority]*Row{}
	for _, f := range a.fates {
		r := by[f.priority]
		if r == nil {
			r = &Row{Priority: f.priority}
			by[f.priority] = r
		}
		r.count(f)
	}
	var rows []Row
	for p, r := range by {
		r.Decision = summarise(a.byRank[p])
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(x, y Row) int { return cmp.Compare(y.Priority, x.Priority) })
	return rows
}
