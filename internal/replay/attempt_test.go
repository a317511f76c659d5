package replay

import (
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// with is the default policy, changed; retries come back at once.
func with(changes ...func(*arbiter.Policy)) arbiter.Policy {
	p := arbiter.DefaultPolicy()
	p.RetryBase, p.RetryMax = time.Microsecond, time.Microsecond
	for _, change := range changes {
		change(&p)
	}
	return p
}

func window(ms int) func(*arbiter.Policy) {
	return func(p *arbiter.Policy) { p.StagingWindow = millis(ms) }
}

func lease(ms int) func(*arbiter.Policy) {
	return func(p *arbiter.Policy) { p.AttemptTimeout = millis(ms) }
}

func preemption(p *arbiter.Policy) { p.Preemption = true }

// queued lets losers wait.
func queued(p *arbiter.Policy) {
	p.Types = map[string]arbiter.TypePolicy{op.TypeModifyField: {OnConflict: op.OnConflictQueue}}
}

var failure = &op.Failure{Message: "no"}

// strong is an operation that preempts.
func strong(id string) op.Operation {
	return op.Operation{ID: id, Priority: op.Critical, OnConflict: op.OnConflictQueue}
}

func preemptible(id string) op.Operation {
	return op.Operation{ID: id, Preemptible: true, MaxRetries: new(0)}
}

// attempts are histories in which executors do in the replay what they did not do
// in the record. Everything happens in both as it is said here.
var attempts = []struct {
	name          string
	before, after arbiter.Policy
	plan          func(l *lab)
	record        string
	replay        string
	results       Results
}{
	{
		name:   "failures count once each, in order, wherever the attempts are",
		before: with(window(10)), after: with(window(20)),
		plan: func(l *lab) {
			l.submit(0, op.Operation{ID: "x", MaxRetries: new(5)}, outcome{took: millis(4), failure: failure}, outcome{took: millis(2), failure: failure}, outcome{took: millis(7)})
		},
		record:  "10 x runs as 1/14 x fails/24 x runs as 2/26 x fails/36 x runs as 3/43 x succeeds",
		replay:  "20 x runs as 1/24 x fails/44 x runs as 2/46 x fails/66 x runs as 3/73 x succeeds",
		results: Results{Moved: 3},
	},
	{
		name:   "who never ran takes as long as the middle one of its type so far",
		before: with(window(0)), after: with(window(0), queued),
		plan: func(l *lab) {
			l.submit(0, op.Operation{ID: "a", Target: "a"}, outcome{took: millis(3)})
			l.submit(0, op.Operation{ID: "b", Target: "b"}, outcome{took: millis(30)})
			l.submit(0, op.Operation{ID: "c", Target: "c"}, outcome{took: millis(6)})
			l.submit(0, op.Operation{ID: "d", Target: "d", Type: op.TypeVersion}, outcome{took: millis(1)})
			l.submit(50, op.Operation{ID: "x"}, outcome{took: millis(20)})
			l.submit(50, op.Operation{ID: "y"})
		},
		record: "0 a runs as 1/0 b runs as 1/0 c runs as 1/0 d runs as 1/1 d succeeds/3 a succeeds/6 c succeeds/30 b succeeds/" +
			"50 x runs as 1/50 y is rejected: later_submission x/70 x succeeds",
		replay: "0 a runs as 1/0 b runs as 1/0 c runs as 1/0 d runs as 1/1 d succeeds/3 a succeeds/6 c succeeds/30 b succeeds/" +
			"50 x runs as 1/70 x succeeds/70 y runs as 1/90 y succeeds", // 20, out of 3 6 20 30
		results: Results{Recorded: 5, Assumed: 1},
	},
	{
		name:   "who was preempted goes on, as long as its next attempt took",
		before: with(window(0), preemption), after: with(window(0)),
		plan: func(l *lab) {
			l.submit(0, preemptible("x"), outcome{took: time.Hour}, outcome{took: millis(300)})
			l.submit(50, strong("y"))
		},
		record:  "0 x runs as 1/100 x yields to y/100 y runs as 1/105 y succeeds/105 x runs as 2/405 x succeeds",
		replay:  "0 x runs as 1/300 x succeeds/300 y runs as 1/305 y succeeds",
		results: Results{Moved: 2},
	},
	{
		name:   "who is preempted only in the replay comes back to the same outcome",
		before: with(window(0)), after: with(window(0), preemption),
		plan: func(l *lab) {
			l.submit(0, preemptible("x"), outcome{took: millis(300), failure: failure})
			l.submit(120, strong("y"))
		},
		record:  "0 x runs as 1/300 x fails/300 x is rejected: max_retries/300 y runs as 1/305 y succeeds",
		replay:  "0 x runs as 1/120 x yields to y/120 y runs as 1/125 y succeeds/125 x runs as 2/425 x fails/425 x is rejected: max_retries",
		results: Results{Moved: 2, Stopped: 1},
	},
	{
		name:   "a report that came too late is in time when the lease is longer",
		before: with(window(0), lease(100)), after: with(window(0)),
		plan: func(l *lab) {
			l.submit(0, preemptible("x"), outcome{took: millis(150), deaf: true}, outcome{took: millis(90), failure: failure})
		},
		record:  "0 x runs as 1/100 x lapses, claimed false/100 x runs as 2/150 x is refused/190 x fails/190 x is rejected: max_retries",
		replay:  "0 x runs as 1/150 x succeeds",
		results: Results{Recorded: 1},
	},
	{
		name:   "but not the failure of one who may have been told to stop",
		before: with(window(0), lease(100)), after: with(window(0), lease(170)),
		plan: func(l *lab) {
			l.submit(0, preemptible("x"), outcome{took: millis(150), deaf: true, failure: failure}, outcome{took: millis(90)})
		},
		record:  "0 x runs as 1/100 x lapses, claimed false/100 x runs as 2/150 x is refused/190 x succeeds",
		replay:  "0 x runs as 1/170 x lapses, claimed false/170 x runs as 2/260 x succeeds",
		results: Results{Moved: 1, Silent: 1},
	},
	{
		name:   "who was told to stop and did not ends when it did",
		before: with(window(0), preemption), after: with(window(0)),
		plan: func(l *lab) {
			l.submit(0, preemptible("x"), outcome{took: millis(140), deaf: true}, outcome{took: millis(150)})
			l.submit(50, strong("y"))
			l.submit(120, op.Operation{ID: "z", Target: "z"})
		},
		record:  "0 x runs as 1/100 x yields to y/100 y runs as 1/105 y succeeds/105 x runs as 2/120 z runs as 1/125 z succeeds/140 x is refused/255 x succeeds",
		replay:  "0 x runs as 1/120 z runs as 1/125 z succeeds/140 x succeeds/140 y runs as 1/145 y succeeds",
		results: Results{Recorded: 2, Moved: 1},
	},
	{
		name:   "the report of another attempt says nothing about one that was stopped",
		before: with(window(0), preemption), after: with(window(0)),
		plan: func(l *lab) {
			l.submit(0, preemptible("x"), outcome{took: time.Hour}, outcome{took: millis(160), deaf: true}, outcome{took: millis(150)})
			l.submit(50, strong("y"))
			l.submit(150, strong("z"))
		},
		record: "0 x runs as 1/100 x yields to y/100 y runs as 1/105 y succeeds/105 x runs as 2/205 x yields to z/205 z runs as 1/210 z succeeds/" +
			"210 x runs as 3/265 x is refused/360 x succeeds",
		replay:  "0 x runs as 1/150 x succeeds/150 y runs as 1/155 y succeeds/155 z runs as 1/160 z succeeds/265 x is refused",
		results: Results{Moved: 3},
	},
	{
		name:   "who failed after it had been told to stop would not have failed",
		before: with(window(0), preemption), after: with(window(0)),
		plan: func(l *lab) {
			l.submit(0, preemptible("x"), outcome{took: millis(110), deaf: true, failure: failure}, outcome{took: millis(150)})
			l.submit(50, strong("y"), outcome{took: millis(30)})
		},
		record:  "0 x runs as 1/100 x yields to y/100 y runs as 1/110 x is refused/130 y succeeds/130 x runs as 2/280 x succeeds",
		replay:  "0 x runs as 1/150 x succeeds/150 y runs as 1/180 y succeeds",
		results: Results{Moved: 2},
	},
	{
		name:   "who has not ended goes on for as long again",
		before: with(window(0)), after: with(window(10)),
		plan: func(l *lab) {
			l.submit(0, op.Operation{ID: "w", Target: "w"})
			l.submit(0, op.Operation{ID: "x"}, outcome{took: time.Hour})
			l.submit(80, op.Operation{ID: "y", Target: "y", Type: op.TypeComplexUpdate}, outcome{took: time.Hour})
			l.submit(400, op.Operation{ID: "z", Target: "z", Type: op.TypeVersion}, outcome{took: millis(30)})
		},
		record:  "0 w runs as 1/0 x runs as 1/5 w succeeds/80 y runs as 1/400 z runs as 1/430 z succeeds",
		replay:  "10 x runs as 1/10 w runs as 1/15 w succeeds/90 y runs as 1/410 z runs as 1/440 x succeeds/440 y succeeds/440 z succeeds",
		results: Results{Moved: 2, Assumed: 2},
	},
	{
		name:   "heartbeats keep to the lease",
		before: with(window(0)), after: with(window(0), lease(100)),
		plan: func(l *lab) {
			l.submit(0, op.Operation{ID: "x"}, outcome{took: millis(250), beat: millis(200)})
			l.submit(110, op.Operation{ID: "y", Target: "y"}, outcome{took: millis(1)})
		},
		record:  "0 x runs as 1/110 y runs as 1/111 y succeeds/200 x goes on/250 x succeeds",
		replay:  "0 x runs as 1/100 x goes on/110 y runs as 1/111 y succeeds/200 x goes on/250 x succeeds",
		results: Results{Recorded: 1, Moved: 1},
	},
	{
		name:   "nobody lapses for want of heartbeats that nobody needed",
		before: with(window(0)), after: with(window(0), lease(100)),
		plan: func(l *lab) {
			l.submit(0, op.Operation{ID: "x"}, outcome{took: millis(250)})
			l.submit(110, op.Operation{ID: "y", Target: "y"}, outcome{took: millis(1)})
		},
		record:  "0 x runs as 1/110 y runs as 1/111 y succeeds/250 x succeeds",
		replay:  "0 x runs as 1/100 x goes on/110 y runs as 1/111 y succeeds/200 x goes on/250 x succeeds",
		results: Results{Recorded: 1, Moved: 1},
	},
	{
		name:   "who was seen under way is not done before",
		before: with(window(0), preemption), after: with(window(0), lease(100)),
		plan: func(l *lab) {
			l.submit(0, preemptible("x"), outcome{took: time.Hour, beat: millis(90)}, outcome{took: millis(20)})
			l.submit(250, strong("y"))
		},
		record:  "0 x runs as 1/90 x goes on/180 x goes on/250 x yields to y/250 y runs as 1/255 y succeeds/255 x runs as 2/275 x succeeds",
		replay:  "0 x runs as 1/100 x goes on/200 x goes on/250 x succeeds/250 y runs as 1/255 y succeeds",
		results: Results{Recorded: 1, Moved: 1},
	},
	{
		name:   "who fell silent does so once, and had begun if it had",
		before: with(window(0), lease(100)), after: with(window(1), lease(200)),
		plan: func(l *lab) {
			l.submit(0, op.Operation{ID: "x", MaxRetries: new(1)}, outcome{silent: true, beat: millis(60)})
			l.submit(30, op.Operation{ID: "y", Target: "y", Type: op.TypeVersion}, outcome{silent: true})
		},
		record: "0 x runs as 1/30 y runs as 1/60 x goes on/130 y lapses, claimed false/130 y runs as 2/135 y succeeds/" +
			"160 x lapses, claimed true/160 x runs as 2/165 x succeeds",
		replay: "1 x runs as 1/1 x goes on/31 y runs as 1/201 x lapses, claimed true/202 x runs as 2/207 x succeeds/" +
			"231 y lapses, claimed false/232 y runs as 2/237 y succeeds",
		results: Results{Moved: 2, Silent: 2},
	},
	{
		name:   "also when its lease is shorter",
		before: with(window(0), lease(200)), after: with(window(0), lease(100)),
		plan: func(l *lab) {
			l.submit(0, op.Operation{ID: "x", MaxRetries: new(1)}, outcome{silent: true, beat: millis(120)})
			l.submit(90, op.Operation{ID: "y", Target: "y"})
		},
		record:  "0 x runs as 1/90 y runs as 1/95 y succeeds/120 x goes on/320 x lapses, claimed true/320 x runs as 2/325 x succeeds",
		replay:  "0 x runs as 1/0 x goes on/90 y runs as 1/95 y succeeds/100 x lapses, claimed true/100 x runs as 2/105 x succeeds",
		results: Results{Recorded: 1, Moved: 1, Silent: 1},
	},
}

// TestAttempts: what executors would have done.
func TestAttempts(t *testing.T) {
	for _, c := range attempts {
		t.Run(c.name, func(t *testing.T) {
			l := newLab()
			l.policy(0, c.before)
			c.plan(l)
			steps := l.record(500)
			if got := strings.Join(said(steps), "/"); got != c.record {
				t.Errorf("recorded\n%s, want\n%s", got, c.record)
			}
			r, got := replayed(t, steps, always(c.after), time.Time{})
			if got := strings.Join(said(got), "/"); got != c.replay {
				t.Errorf("replayed\n%s, want\n%s", got, c.replay)
			}
			if r.Results != c.results {
				t.Errorf("results %+v, want %+v", r.Results, c.results)
			}
		})
	}
}

// TestLinked: which attempt of the record one is linked to, and whose outcome it
// has otherwise.
func TestLinked(t *testing.T) {
	const now = 7 // the step
	tells := func(step uint64, used bool) precedent {
		return precedent{step: step, end: reported, used: used, lease: time.Minute, at: begun, endAt: begun.Add(time.Second)}
	}
	stops := func(step uint64) precedent { p := tells(step, false); p.end = stopped; return p }
	for name, c := range map[string]struct {
		past    []precedent
		further int
		as      int // -1: none
		linked  bool
	}{
		"the record never ran it":                         {nil, 0, -1, false},
		"it ran at another step":                          {[]precedent{tells(8, false)}, 0, 0, false},
		"it ran at this step":                             {[]precedent{tells(3, true), tells(now, false)}, 0, 1, true},
		"this is a step that the record does not have":    {[]precedent{tells(now, false)}, 1, 0, false},
		"an earlier outcome comes first":                  {[]precedent{tells(3, false), tells(now, false)}, 0, 0, false},
		"its outcome has been":                            {[]precedent{tells(now, true), tells(9, false)}, 0, 1, false},
		"it was stopped":                                  {[]precedent{tells(3, true), stops(now), tells(9, false)}, 0, 1, true},
		"it was stopped, but an earlier one has not been": {[]precedent{tells(3, false), stops(now)}, 0, 0, false},
	} {
		r := &run{record: newRecord(testPartition), byOp: map[string]*attempt{}, further: c.further}
		r.record.ledger.byID["x"] = &life{}
		for i := range c.past {
			r.record.past["x"] = append(r.record.past["x"], &c.past[i])
		}
		r.granted(&arbiter.Granted{OpID: "x", LeaseEnds: begun.Add(time.Minute)}, &arbiter.Step{Number: now, At: begun})
		a := r.byOp["x"]
		as := -1
		for i := range c.past {
			if a.as == &c.past[i] {
				as = i
			}
		}
		if as != c.as || a.linked != c.linked {
			t.Errorf("%s: it has the outcome %d, linked %t", name, as, a.linked)
		}
	}
}
