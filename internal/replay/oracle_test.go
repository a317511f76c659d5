package replay

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// The oracle knows a small world: no ancestors, no failures, every execution takes
// as long as every other one. It plays it by lists, without a machine: at each
// instant first whoever is done ends, then what is submitted arrives, then every
// target whose window has passed is decided.
type oracle struct {
	window   time.Duration
	conflict map[string]op.Conflict // by type; else what the operation asks for
	took     time.Duration

	now     time.Time
	pending []*oracleOp
	running map[string]*oracleOp // by target
	opened  map[string]time.Time
	verdict map[string]Verdict
	decided map[string][]Ruling
}

type oracleOp struct {
	op.Operation
	place   int
	ends    time.Time
	sharing []*oracleOp
}

func newOracle(window time.Duration, conflict map[string]op.Conflict, took time.Duration) *oracle {
	return &oracle{
		window: window, conflict: conflict, took: took,
		running: map[string]*oracleOp{}, opened: map[string]time.Time{}, verdict: map[string]Verdict{}, decided: map[string][]Ruling{},
	}
}

type submission struct {
	at time.Time
	op op.Operation
}

// play lets everything happen, from one instant at which something is due to the
// next.
func (o *oracle) play(subs []submission) {
	for place := 0; o.wait(subs[place:]); {
		for _, t := range o.busy() {
			if e := o.running[t]; !e.ends.After(o.now) {
				delete(o.running, t)
				o.verdict[e.ID] = Verdict{End: End{Status: op.Succeeded}}
				for _, s := range e.sharing {
					o.verdict[s.ID] = Verdict{End: End{op.Succeeded, op.Coalesced}, Winner: e.ID}
				}
			}
		}
		for ; place < len(subs) && !subs[place].at.After(o.now); place++ {
			o.arrive(&oracleOp{Operation: subs[place].op, place: place})
		}
		for _, t := range o.waiting() {
			if o.running[t] == nil && !o.opened[t].Add(o.window).After(o.now) {
				o.decide(t)
			}
		}
	}
}

// wait goes to the next instant at which something is due.
func (o *oracle) wait(subs []submission) bool {
	var due []time.Time
	for _, t := range o.busy() {
		due = append(due, o.running[t].ends)
	}
	for _, t := range o.waiting() {
		if o.running[t] == nil {
			due = append(due, o.opened[t].Add(o.window))
		}
	}
	if len(subs) > 0 {
		due = append(due, subs[0].at)
	}
	if len(due) == 0 {
		return false
	}
	slices.SortFunc(due, time.Time.Compare)
	o.now = due[0]
	return true
}

func (o *oracle) busy() (targets []string) {
	for t := range o.running {
		targets = append(targets, t)
	}
	return targets
}

func (o *oracle) waiting() (targets []string) {
	for _, p := range o.pending {
		if !slices.Contains(targets, p.Target) {
			targets = append(targets, p.Target)
		}
	}
	return targets
}

func (o *oracle) choice(p *oracleOp) op.Conflict {
	if c := o.conflict[p.Type]; c != "" {
		return c
	}
	return p.OnConflict
}

func (o *oracle) arrive(p *oracleOp) {
	if o.choice(p) == op.OnConflictSupersede && p.Submitter != "" {
		o.drop(func(old *oracleOp) bool {
			same := old.Target == p.Target && old.Type == p.Type && old.Submitter == p.Submitter
			if same {
				o.verdict[old.ID] = Verdict{End: End{op.Rejected, op.Superseded}, Winner: p.ID}
			}
			return same
		})
	}
	if !slices.Contains(o.waiting(), p.Target) {
		o.opened[p.Target] = o.now
	}
	o.pending = append(o.pending, p)
}

func (o *oracle) drop(f func(*oracleOp) bool) { o.pending = slices.DeleteFunc(o.pending, f) }

func (o *oracle) decide(target string) {
	var area []*oracleOp
	for _, p := range o.pending {
		if p.Target == target {
			area = append(area, p)
		}
	}
	slices.SortStableFunc(area, func(a, b *oracleOp) int { return int(b.Priority) - int(a.Priority) })
	winner := area[0]
	winner.ends = o.now.Add(o.took)
	o.running[target] = winner
	o.drop(func(p *oracleOp) bool { return p == winner })
	r := Ruling{At: o.now, Winner: winner.ID, Contenders: len(area)}
	for _, p := range area[1:] {
		verdict := op.VerdictQueued
		switch c := o.choice(p); {
		case c == op.OnConflictCoalesce && p.Type == winner.Type && string(p.Params) == string(winner.Params):
			verdict = op.VerdictCoalesced
			winner.sharing = append(winner.sharing, p)
		case c == op.OnConflictReject:
			verdict = op.VerdictRejected
			why := op.LaterSubmission
			if p.Priority < winner.Priority {
				why = op.LowerPriority
			}
			o.verdict[p.ID] = Verdict{End: End{op.Rejected, why}, Winner: winner.ID}
		}
		if verdict != op.VerdictQueued {
			o.drop(func(q *oracleOp) bool { return p == q })
		}
		r.Losers = append(r.Losers, Loser{p.ID, verdict})
	}
	o.decided[target] = append(o.decided[target], r)
}

// rules is one policy, for the machine and for the oracle.
type rules struct {
	window   int
	conflict map[string]op.Conflict
}

func (r rules) policy() arbiter.Policy {
	p := arbiter.DefaultPolicy()
	p.StagingWindow = millis(r.window)
	p.Types = map[string]arbiter.TypePolicy{}
	for name, c := range r.conflict {
		p.Types[name] = arbiter.TypePolicy{OnConflict: c}
	}
	return p
}

func drawRules(rng *rand.Rand) rules {
	r := rules{window: []int{0, 10}[rng.IntN(2)], conflict: map[string]op.Conflict{}}
	for _, name := range []string{op.TypeModifyField, op.TypeVersion} {
		c := []op.Conflict{"", op.OnConflictReject, op.OnConflictQueue, op.OnConflictCoalesce, op.OnConflictSupersede}[rng.IntN(5)]
		if c != "" {
			r.conflict[name] = c
		}
	}
	return r
}

// TestOracle: what the report says is what an independent simulation of both
// policies says.
func TestOracle(t *testing.T) {
	changed, decided := 0, 0
	for n := range uint64(fewer(250)) {
		rng := rand.New(rand.NewPCG(n, 7))
		l := newLab()
		l.took = millis(1 + rng.IntN(20))
		before, after := drawRules(rng), drawRules(rng)
		l.policy(0, before.policy())
		var subs []submission
		// One of each type is executed before anything is contended for, so that it
		// is known how long those take that the record never executed.
		for i, name := range []string{op.TypeModifyField, op.TypeVersion} {
			o := op.Operation{ID: "first" + strconv.Itoa(i), Type: name, Target: "w" + strconv.Itoa(i), Priority: op.Normal}
			l.submit(1, o)
			subs = append(subs, submission{begun.Add(millis(1)), o})
		}
		at := 40
		for i := range 5 + rng.IntN(40) {
			o := op.Operation{
				ID: "o" + strconv.Itoa(i), Type: []string{op.TypeModifyField, op.TypeVersion}[rng.IntN(2)], Target: "t" + strconv.Itoa(rng.IntN(3)),
				Priority: op.Priority(1 + 3*rng.IntN(4)), OnConflict: []op.Conflict{op.OnConflictReject, op.OnConflictQueue}[rng.IntN(2)],
				Params: []byte(`{"n":` + strconv.Itoa(rng.IntN(2)) + `}`), Submitter: []string{"", "s1", "s2"}[rng.IntN(3)],
			}
			l.submit(at, o)
			subs = append(subs, submission{begun.Add(millis(at)), o})
			at += []int{0, 0, 1, 3, 11, 30}[rng.IntN(6)]
		}
		steps := l.record(0)
		was := newOracle(millis(before.window), before.conflict, l.took)
		was.play(subs)
		would := newOracle(millis(after.window), after.conflict, l.took)
		would.play(subs)

		r, _ := replayed(t, steps, always(after.policy()), time.Time{})
		want := Report{Changed: []Change{}, Operations: len(subs)}
		for i, s := range subs {
			a, b := was.verdict[s.op.ID], would.verdict[s.op.ID]
			if a.Status == "" || b.Status == "" {
				t.Fatalf("history %d: the oracle leaves %s open", n, s.op.ID)
			}
			if a != b {
				want.Changed = append(want.Changed, Change{s.op.ID, s.op.Type, s.op.Target, op.Place{Seq: uint64(i + 1)}, s.op.Priority, a, b})
			}
		}
		want.Decisions.Changed = []Decided{}
		for _, name := range []string{"t0", "t1", "t2", "w0", "w1"} {
			a, b := was.decided[name], would.decided[name]
			want.Decisions.Recorded += len(a)
			want.Decisions.Replayed += len(b)
			for k := range max(len(a), len(b)) {
				d := Decided{Target: name, N: k + 1}
				if k < len(a) {
					d.Recorded = &a[k]
				}
				if k < len(b) {
					d.Replayed = &b[k]
				}
				if !cmp.Equal(d.Recorded, d.Replayed, cmpopts.IgnoreFields(Ruling{}, "At")) {
					want.Decisions.Changed = append(want.Decisions.Changed, d)
				}
			}
		}
		got := Report{Changed: r.Changed, Operations: r.Operations, Decisions: r.Decisions}
		if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Report{}), cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("history %d, window %d → %d, %v → %v (-oracle +replay):\n%s", n, before.window, after.window, before.conflict, after.conflict, d)
		}
		changed += len(want.Changed)
		decided += len(want.Decisions.Changed)
	}
	t.Logf("%d verdicts and %d decisions changed", changed, decided)
	if changed < fewer(750) || decided < fewer(2000) {
		t.Errorf("only %d verdicts and %d decisions changed", changed, decided)
	}
}
