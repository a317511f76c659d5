package torture

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

// ReportType is the value of "type" in a [Report].
const ReportType = "ops.v1.torture_report"

// Report is what a run amounts to. Durations are in nanoseconds.
type Report struct {
	Type      string        `json:"type"`
	Seed      uint64        `json:"seed"`
	Run       string        `json:"run"` // every id of the run begins with it
	Nodes     int           `json:"nodes"`
	StartedAt time.Time     `json:"started_at"`
	Duration  time.Duration `json:"duration"` // of the load and the faults
	Cores     int           `json:"cores"`

	Faults      []Fault        `json:"faults"`
	FaultKinds  map[string]int `json:"fault_kinds"`
	Failpoints  map[string]int `json:"failpoints"` // "NAME ACTION": how often it acted
	Matrix      []Cell         `json:"matrix,omitempty"`
	Takeovers   int            `json:"takeovers"`
	Decisions   int            `json:"decisions"`
	Ended       int            `json:"ended"`
	Succeeded   int            `json:"succeeded"`
	Balance     Balance        `json:"balance"`
	Quiescence  time.Duration  `json:"quiescence"`   // from the last healing until nothing was open
	LongestGap  Gap            `json:"longest_gap"`  // in which something waited and nothing at all was served
	KeyGap      Gap            `json:"key_gap"`      // the longest of one target; Longest is of any target
	KeyBound    time.Duration  `json:"key_bound"`    // what that may be
	SlowTargets []Gap          `json:"slow_targets"` // those over the bound, at most ten
	Outages     int            `json:"outages"`      // times in which too few servers ran to store anything
	Outage      time.Duration  `json:"outage"`       // in all
	Unexpected  []string       `json:"unexpected"`   // processes that ended by themselves, and the like
	Verify      *verify.Result `json:"verify"`

	Failures []string `json:"failures"` // why the run failed; empty: it passed
	Kept     string   `json:"kept,omitempty"`
}

// OK reports whether everything held.
func (r *Report) OK() bool { return len(r.Failures) == 0 }

func (r *Report) fail(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

// leastShare is the share of the submitted operations that has to succeed for a run
// to prove anything: half of them are contended, and the faults take their part.
const leastShare = 0.15

// collect begins the report when the faults are over.
func (r *run) collect() *Report {
	rep := &Report{
		Type: ReportType, Seed: r.Seed, Run: r.name, Nodes: r.Nodes, StartedAt: r.begun.UTC(), Duration: r.tortured,
		Cores: runtime.NumCPU(), Faults: r.devil.faults(), FaultKinds: map[string]int{}, Failures: []string{}, SlowTargets: []Gap{},
	}
	for _, f := range rep.Faults {
		rep.FaultKinds[f.Kind]++
	}
	return rep
}

// judge compares the book with the log and everything with its bound.
func (r *run) judge(rep *Report) {
	r.site.mu.Lock()
	rep.Failpoints, rep.Unexpected = maps.Clone(r.hits), append([]string{}, r.unexpected...)
	outages, hurt := append([]span{}, r.outages...), append([]span{}, r.hurt...)
	r.site.mu.Unlock()
	for _, o := range outages {
		rep.Outages++
		rep.Outage += o.to.Sub(o.from)
	}
	rep.Balance = r.load.book.balance(r.ledger)
	var keys []Gap
	doomed := r.doomed
	if doomed == nil {
		doomed = func(string) bool { return false }
	}
	keys, rep.LongestGap = r.ledger.gaps(r.load.book, hurt, r.bus.Layout().Partitions, doomed)
	rep.KeyBound = r.keyBound()
	if len(keys) > 0 {
		rep.KeyGap = keys[0]
	}
	for _, g := range keys {
		rep.KeyGap.Longest = max(rep.KeyGap.Longest, g.Longest)
		if g.Blamed > rep.KeyBound && len(rep.SlowTargets) < listed {
			rep.SlowTargets = append(rep.SlowTargets, g)
		}
	}
	r.ledger.mu.Lock()
	rep.Ended, rep.Succeeded, rep.Takeovers, rep.Decisions = r.ledger.ended, r.ledger.succeeded, r.ledger.takeovers, r.ledger.decisions
	bad := r.ledger.bad
	r.ledger.mu.Unlock()
	rep.verdict(bad)
}

// verdict says why the run failed; bad is how many entries could not be read.
func (r *Report) verdict(bad int) {
	b := &r.Balance
	if b.LostCount > 0 || b.Bad > 0 {
		r.fail("%d acknowledged operations without exactly one end; lost %v, open %v, ended twice %v, refused and stored %v, told wrongly %v",
			b.LostCount, b.Lost, b.Open, b.Twice, b.Forged, b.Lied)
	}
	if r.Verify.Total > 0 {
		r.fail("%d violations of the invariants, the first: %v", r.Verify.Total, r.Verify.Violations[0])
	}
	if len(r.Verify.Lagging) > 0 {
		r.fail("the views of the partitions %v lag behind", r.Verify.Lagging)
	}
	if bad > 0 {
		r.fail("%d entries of the journal cannot be read", bad)
	}
	if n := len(r.Unexpected); n > 0 {
		r.fail("%d things happened that no fault explains, the first: %s", n, r.Unexpected[0])
	}
	if n := len(r.SlowTargets); n > 0 {
		r.fail("%s waited %.1fs, more than %s", r.SlowTargets[0].Target, r.SlowTargets[0].Blamed.Seconds(), r.KeyBound)
	}
	if total := b.Accepted + b.Unknown; float64(r.Succeeded) < leastShare*float64(total) || r.Succeeded < 50 {
		r.fail("only %d of %d operations succeeded: the run proves nothing", r.Succeeded, total)
	}
	if len(r.Faults) == 0 && len(r.Matrix) == 0 {
		r.fail("nothing was done to the system: the run proves nothing")
	}
}

// keyBound is how long a target may wait after a fault: until the lease of its
// attempt is over, and a little more.
func (r *run) keyBound() time.Duration {
	if !r.Server {
		return attemptLease + allowance + r.slack
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	text, rev, err := r.bus.Policy(ctx)
	if err == nil {
		if p, err := arbiter.ParsePolicy(text, rev); err == nil {
			return p.AttemptTimeout + allowance
		}
	}
	return arbiter.DefaultPolicy().AttemptTimeout + allowance
}
