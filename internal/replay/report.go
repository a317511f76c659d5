package replay

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Report says what would have been different. Its order depends on nothing but
// the record.
type Report struct {
	Partitions int       `json:"partitions"`
	Steps      int       `json:"steps"` // recorded ones that were replayed
	From       time.Time `json:"from"`  // the first of them
	To         time.Time `json:"to"`    // and the last
	// Operations is how many are compared: those that have an end in the record.
	Operations int `json:"operations"`
	// Open is how many have none, and are not compared.
	Open int `json:"open"`
	// Changed are the operations whose verdict differs, in the order of the log.
	Changed []Change `json:"changed"`
	// Turns counts them by what they were and would have been, most first.
	Turns []Turn `json:"turns"`
	// Ends counts all that are compared by their end, successes first.
	Ends      []EndCount `json:"ends"`
	Decisions Decisions  `json:"decisions"`
	// Waits are by priority, highest first; the last one, of priority 0, is all.
	Waits   []Wait  `json:"waits"`
	Results Results `json:"results"`

	ends  map[End]*EndCount
	waits []waited
}

// End is how an operation ended.
type End struct {
	Status op.Status `json:"status"`
	Reason op.Reason `json:"reason,omitempty"`
}

// String returns status and reason.
func (e End) String() string { return strings.TrimSpace(string(e.Status) + " " + string(e.Reason)) }

// Verdict is how an operation ended and who stood in its way, or shared its end.
type Verdict struct {
	End
	Winner string `json:"winner,omitempty"`
}

// Change is an operation whose verdict differs. A replayed one that is not an end
// waits for something that never comes.
type Change struct {
	OpID     string      `json:"op_id"`
	OpType   string      `json:"op_type"`
	Target   string      `json:"target_entity_id"`
	Place    op.Place    `json:"place"`
	Priority op.Priority `json:"priority"` // as it was asked for
	Recorded Verdict     `json:"recorded"`
	Replayed Verdict     `json:"replayed"`
}

// Turn counts operations by both ends. They may be the same: then somebody else
// would have won.
type Turn struct {
	Recorded End `json:"recorded"`
	Replayed End `json:"replayed"`
	Count    int `json:"count"`
}

// EndCount counts operations by one end.
type EndCount struct {
	End
	Recorded int `json:"recorded"`
	Replayed int `json:"replayed"`
}

// Decisions compares the decisions about each target in their order: the first
// with the first, the second with the second. Those that are only about operations
// that the record leaves open are left out.
type Decisions struct {
	Recorded int       `json:"recorded"`
	Replayed int       `json:"replayed"`
	Changed  []Decided `json:"changed"` // by target and number
}

// Decided is the n-th decision about a target, where winner or losers differ. One
// side is nil where there were fewer.
type Decided struct {
	Target   string  `json:"target_entity_id"`
	N        int     `json:"n"`
	Recorded *Ruling `json:"recorded,omitempty"`
	Replayed *Ruling `json:"replayed,omitempty"`
}

// Ruling is what is compared of a decision.
type Ruling struct {
	At         time.Time `json:"at"` // not compared
	Winner     string    `json:"winner"`
	Losers     []Loser   `json:"losers,omitempty"` // those listed, best first
	Contenders int       `json:"contenders"`       // in all
}

// Loser is one who lost a decision, and what became of it at once.
type Loser struct {
	OpID    string     `json:"op_id"`
	Verdict op.Verdict `json:"verdict"`
}

func (d *Decided) differs() bool {
	a, b := d.Recorded, d.Replayed
	return a == nil || b == nil || a.Winner != b.Winner || a.Contenders != b.Contenders || !slices.Equal(a.Losers, b.Losers)
}

// Wait says how long operations waited from their acceptance until they were
// promoted for the first time.
type Wait struct {
	Priority op.Priority `json:"priority"` // as it was asked for; 0: all
	Recorded Waited      `json:"recorded"`
	Replayed Waited      `json:"replayed"`
}

// Waited are the waits of those that were promoted at all.
type Waited struct {
	Promoted int     `json:"promoted"`
	P50MS    float64 `json:"p50_ms"`
	P99MS    float64 `json:"p99_ms"`
}

// Results says how much of the replay is record and how much is assumption: how
// its attempts ended.
type Results struct {
	Recorded int `json:"recorded"` // with their recorded result
	Moved    int `json:"moved"`    // with a recorded result, at another instant
	Assumed  int `json:"assumed"`  // with a success that the record does not have
	Silent   int `json:"silent"`   // with the end of their lease
	Stopped  int `json:"stopped"`  // preempted or cancelled
}

// waited is how long one operation waited in both histories.
type waited struct {
	priority   op.Priority
	was, would time.Duration
}

// Same reports whether nothing would have been different.
func (r *Report) Same() bool { return len(r.Changed) == 0 && len(r.Decisions.Changed) == 0 }

// count counts one operation.
func (r *Report) count(was, would End) {
	if r.ends == nil {
		r.ends = map[End]*EndCount{}
	}
	for _, e := range []End{was, would} {
		if r.ends[e] == nil {
			r.ends[e] = &EndCount{End: e}
		}
	}
	r.ends[was].Recorded++
	r.ends[would].Replayed++
}

// Merge puts the reports of several partitions together.
func Merge(reports ...Report) Report {
	all := Report{Changed: []Change{}, Turns: []Turn{}, Ends: []EndCount{}, Waits: []Wait{}, ends: map[End]*EndCount{}}
	all.Decisions.Changed = []Decided{}
	for i := range reports {
		all.add(&reports[i])
	}
	slices.SortFunc(all.Changed, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Place.Seq, b.Place.Seq), cmp.Compare(a.Place.Index, b.Place.Index), cmp.Compare(a.OpID, b.OpID))
	})
	slices.SortStableFunc(all.Decisions.Changed, func(a, b Decided) int { return cmp.Compare(a.Target, b.Target) })
	all.countTurns()
	all.countEnds()
	all.measure()
	return all
}

func (r *Report) add(o *Report) {
	r.Partitions += o.Partitions
	if o.Steps > 0 {
		if r.Steps == 0 || o.From.Before(r.From) {
			r.From = o.From
		}
		r.To = later(r.To, o.To)
	}
	r.Steps += o.Steps
	r.Operations += o.Operations
	r.Open += o.Open
	r.Changed = append(r.Changed, o.Changed...)
	r.Decisions.Recorded += o.Decisions.Recorded
	r.Decisions.Replayed += o.Decisions.Replayed
	r.Decisions.Changed = append(r.Decisions.Changed, o.Decisions.Changed...)
	r.Results.Recorded += o.Results.Recorded
	r.Results.Moved += o.Results.Moved
	r.Results.Assumed += o.Results.Assumed
	r.Results.Silent += o.Results.Silent
	r.Results.Stopped += o.Results.Stopped
	r.waits = append(r.waits, o.waits...)
	for _, e := range byEnd(o.ends) {
		if r.ends[e.End] == nil {
			r.ends[e.End] = &EndCount{End: e.End}
		}
		r.ends[e.End].Recorded += e.Recorded
		r.ends[e.End].Replayed += e.Replayed
	}
}
