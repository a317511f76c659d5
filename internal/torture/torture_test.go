package torture

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// The tests are their own victims: this program plays the parts, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "part" {
		os.Exit(Part(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func options(t *testing.T) Options {
	t.Helper()
	return Options{
		Self: []string{os.Args[0], "part"}, Seed: 11, Dir: t.TempDir(), Duration: 5 * time.Second, Rate: 80,
		Say: func(text string) { t.Log(text) },
		// With the race detector, next to the tests of other packages, a process may
		// wait for its processor longer than for anything that is tested here.
		slack: 2 * time.Minute,
	}
}

func passed(t *testing.T, r *Report, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Failures {
		t.Error(f)
	}
	t.Logf("%d accepted, %d succeeded, %d faults, failpoints %v, longest gap of a target %s, quiet after %s",
		r.Balance.Accepted, r.Succeeded, len(r.Faults), r.Failpoints, r.KeyGap.Blamed, r.Quiescence)
}

func TestAShortRun(t *testing.T) {
	r, err := Run(t.Context(), options(t))
	passed(t, r, err)
	if len(r.Faults) < 3 || r.Balance.Told == 0 || r.Decisions == 0 || r.Balance.Refused == 0 {
		t.Errorf("too little was done: %d faults, %+v", len(r.Faults), r.Balance)
	}
}

func TestASmallMatrix(t *testing.T) {
	o := options(t)
	o.Points, o.Repeat, o.Lanes = regexp.MustCompile(`journal\.append|setup\.apply\.after|work\.take`), 1, 2
	r, err := Matrix(t.Context(), o)
	passed(t, r, err)
	if len(r.Matrix) != 4*3 {
		t.Errorf("%d cells: %+v", len(r.Matrix), r.Matrix)
	}
	for _, c := range r.Matrix {
		if n := r.Failpoints[c.Point+" "+string(c.Action)]; c.Hit != 1 || n != 1 {
			t.Errorf("%+v, counted %d times", c, n)
		}
	}
}

// A torture that cannot fail proves nothing: with a fault that lets the runner-up
// through, it says what is wrong and exits with 1.
func TestThePlantedFaultIsFound(t *testing.T) {
	faulty := filepath.Join(t.TempDir(), "hierarchy")
	build := exec.Command("go", "build", "-tags", "plantedfault", "-o", faulty, "../../cmd/hierarchy")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(faulty, "torture", "--duration", "2s", "--seed", "3", "-q", "--dir", t.TempDir()).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("exits with %v, want 1\n%s", err, out)
	}
	if !strings.Contains(string(out), "resolution.winner_not_best") {
		t.Errorf("the broken invariant is not named\n%s", out)
	}
}

// TestBalance plants what the comparison of book and log must not overlook.
func TestBalance(t *testing.T) {
	b, g := newBook(), newLedger("t-")
	put := func(id string, a answer, seen bool, ends int, status, told op.Status) {
		b.ask(id, "x")
		b.note(id, a)
		b.told(id, told)
		if seen {
			g.fates[id] = &fate{seen: true, target: "x", ends: ends, status: status}
		}
	}
	put("good", accepted, true, 1, op.Succeeded, op.Succeeded)
	put("away", refused, false, 0, "", "")
	put("maybe", unknown, true, 1, op.Rejected, "")
	put("never", unknown, false, 0, "", "")
	if r := b.balance(g); r.Bad != 0 || r.LostCount != 0 || r.Accepted != 1 || r.Refused != 1 || r.Unknown != 2 || r.Stored != 1 || r.Told != 1 {
		t.Errorf("a clean book: %+v", r)
	}
	put("lost", accepted, false, 0, "", "")
	put("open", accepted, true, 0, op.Pending, "")
	put("twice", accepted, true, 2, op.Succeeded, "")
	put("forged", refused, true, 1, op.Succeeded, "")
	put("lied", accepted, true, 1, op.Rejected, op.Succeeded)
	put("stuck", unknown, true, 0, op.Executing, "")
	r := b.balance(g)
	for name, pair := range map[string][2][]string{
		"lost": {r.Lost, {"lost"}}, "open": {r.Open, {"open", "stuck"}}, "twice": {r.Twice, {"twice"}},
		"forged": {r.Forged, {"forged"}}, "lied": {r.Lied, {"lied"}},
	} {
		if !slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s: %v, want %v", name, pair[0], pair[1])
		}
	}
	if r.LostCount != 3 || r.Bad != 6 {
		t.Errorf("%+v", r)
	}
	// What was acknowledged stays so, and silence is not forgotten.
	b.note("lost", refused)
	b.note("never", refused)
	if b.lines["lost"].answer != accepted || b.lines["never"].answer != unknown {
		t.Error("a later answer has changed an earlier one")
	}
}

func TestGaps(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	b, g := newBook(), newLedger("t-")
	put := func(id, target string, acked, end float64, served ...float64) {
		b.ask(id, target)
		b.note(id, accepted)
		b.lines[id].acked = at(acked)
		g.fates[id] = &fate{seen: true, target: target, first: at(acked), end: at(end), ends: 1}
		for _, s := range append(served, end) {
			g.served[target] = append(g.served[target], at(s))
		}
	}
	put("a", "x", 0, 3, 1)     // 1 s, 2 s
	put("b", "x", 2.5, 4)      // 1 s after a
	put("c", "x", 20, 21)      // nobody waited from 4 to 20
	put("d", "y", 5, 15, 5, 6) // 9 s, of which 7 s without servers
	none := func(string) bool { return false }
	keys, all := g.gaps(b, []span{{at(6), at(13)}}, 1, none)
	if len(keys) != 2 || keys[0].Target != "x" || keys[0].Blamed != 2*time.Second || keys[1].Length != 9*time.Second || keys[1].Blamed != 2*time.Second {
		t.Errorf("%+v", keys)
	}
	if all.Length < 2*time.Second || all.Length > 9*time.Second {
		t.Errorf("%+v", all)
	}
	// Whoever was bound to fail took the partition over at 6 and at 14; somebody else
	// did at 14.5, and the gap is none the shorter for that.
	g.reigns[0] = []reign{{"resolver-lane1-7-0", at(6)}, {"resolver-lane2-9-0", at(14)}, {"r1-1", at(14.5)}}
	keys, _ = g.gaps(b, nil, 1, victimName.MatchString)
	if keys[1].Target != "y" || keys[1].Longest != 9*time.Second || keys[1].Blamed != time.Second {
		t.Errorf("with owners that were bound to fail: %+v", keys)
	}
	for name, c := range map[string]struct {
		hurt []span
		want time.Duration
	}{
		"nothing was hurt":             {nil, 10 * time.Second},
		"away at the end":              {[]span{{at(1), at(2)}, {at(8), at(30)}}, 0},
		"away for good":                {[]span{{at(6), time.Time{}}}, 0},
		"away again within an absence": {[]span{{at(1), at(7)}, {at(2), at(3)}}, 3 * time.Second},
		"hurt before":                  {[]span{{at(-5), at(-4)}}, 10 * time.Second},
		"hurt afterwards":              {[]span{{at(10), at(12)}}, 10 * time.Second},
	} {
		if g := between(at(0), at(10), c.hurt); g.Blamed != c.want {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

// The faults and the load follow from the seed.
func TestTheSeedDecides(t *testing.T) {
	draw := func(seed uint64) (all []string) {
		d := newDevil(&site{Options: Options{Seed: seed}})
		for _, name := range []string{"r1", "x1", "s1", "p1"} {
			d.roles = append(d.roles, &slot{role: map[byte]string{'r': partResolver, 'x': partExecutor, 's': partSubmitter, 'p': partOperator}[name[0]], base: name})
		}
		d.site.servers = []*slot{{base: "n1"}, {base: "n2"}, {base: "n3"}}
		rng := source(seed, "faults")
		for range 20 {
			for _, k := range kinds {
				text, _ := k.draw(d, rng)
				all = append(all, text)
			}
		}
		w := newWorkload("t", seed, true)
		for range 200 {
			for _, o := range w.next().ops {
				all = append(all, string(encode(&o)))
			}
		}
		return all
	}
	if !slices.Equal(draw(1), draw(1)) {
		t.Error("the same seed draws other faults or operations")
	}
	if slices.Equal(draw(1), draw(2)) {
		t.Error("another seed draws the same")
	}
}

// Every operation of the load is one that the system takes.
func TestTheLoadIsValid(t *testing.T) {
	types := op.BuiltinTypes()
	types[tortureType] = op.TypeInfo{Name: tortureType, Priority: op.Normal}
	w := newWorkload("t", 1, true)
	ways, kinds := map[way]int{}, map[string]int{}
	for range 3000 {
		task := w.next()
		ways[task.way]++
		for _, o := range task.ops {
			if task.way == wayCancel || task.way == waySweep {
				continue
			}
			_, err := op.Decode(body([]op.Operation{o}), "", types)
			if (err != nil) != (task.way == wayWrong) {
				t.Fatalf("%s: %v", encode(&o), err)
			}
			kinds[o.Type]++
		}
	}
	if len(ways) != int(waySweep)+1 || kinds[tortureType] == 0 || kinds[op.TypeAttach] == 0 {
		t.Errorf("ways %v, types %v", ways, kinds)
	}
}

func TestEveryPointCanBeDriven(t *testing.T) {
	m := newMatrix(&site{Options: Options{Actions: []failpoint.Action{failpoint.Kill}, Repeat: 1}})
	for role := range m.todo {
		if !slices.Contains([]string{partResolver, partExecutor, partSubmitter, partOperator, partSetup}, role) {
			t.Errorf("nobody plays the part %s", role)
		}
	}
	for _, c := range m.cells {
		if d := depthOf(c.Point); d < 1 {
			t.Errorf("%s is driven to hit %d", c.Point, d)
		}
	}
	if depthOf("bus.member.join.before") != 1 || depthOf("bus.intake.take") != 15 {
		t.Error("a depth was not found")
	}
}

// TestVerdict plants each reason for which a run has to fail.
func TestVerdict(t *testing.T) {
	good := func() *Report {
		return &Report{Faults: []Fault{{}}, Succeeded: 100, Balance: Balance{Accepted: 200}, Verify: &verify.Result{}}
	}
	r := good()
	if r.verdict(0); !r.OK() {
		t.Errorf("a good run fails: %v", r.Failures)
	}
	for says, plant := range map[string]func(r *Report) (bad int){
		"without exactly one end": func(r *Report) int { r.Balance.LostCount = 1; return 0 },
		"refused and stored":      func(r *Report) int { r.Balance.Bad = 1; return 0 },
		"violations":              func(r *Report) int { r.Verify.Total, r.Verify.Violations = 1, []audit.Violation{{}}; return 0 },
		"lag behind":              func(r *Report) int { r.Verify.Lagging = []int{1}; return 0 },
		"cannot be read":          func(*Report) int { return 1 },
		"no fault explains":       func(r *Report) int { r.Unexpected = []string{"x"}; return 0 },
		"waited":                  func(r *Report) int { r.SlowTargets = []Gap{{}}; return 0 },
		"49 of 200 operations":    func(r *Report) int { r.Succeeded = 49; return 0 },
		"99 of 1000 operations":   func(r *Report) int { r.Succeeded, r.Balance.Unknown = 99, 800; return 0 },
		"nothing was done to":     func(r *Report) int { r.Faults = nil; return 0 },
	} {
		r := good()
		if r.verdict(plant(r)); len(r.Failures) != 1 || !strings.Contains(r.Failures[0], says) {
			t.Errorf("%s: %v", says, r.Failures)
		}
	}
}

// TestLedger reads ends from the journal as the balance needs them.
func TestLedger(t *testing.T) {
	g := newLedger("t-")
	put := func(seq uint64, s arbiter.Step) { g.entry(&bus.Entry{Seq: seq, Data: encode(s)}) }
	in := arbiter.Input{Submit: &arbiter.Submit{Operation: op.Operation{ID: "t-1", Type: op.TypeVersion, Target: "x", Priority: op.Normal, OnConflict: op.OnConflictReject}}}
	end := arbiter.Effect{Succeeded: &arbiter.Succeeded{OpID: "t-1"}}
	put(1, arbiter.Step{In: []arbiter.Input{in}, Out: []arbiter.Effect{end}})
	put(1, arbiter.Step{Out: []arbiter.Effect{end}}) // read again
	if f := g.fate("t-1"); f.ends != 1 || f.status != op.Succeeded {
		t.Errorf("%+v", f)
	}
	put(2, arbiter.Step{Out: []arbiter.Effect{end}})
	if f := g.fate("t-1"); f.ends != 2 {
		t.Errorf("two ends: %+v", f)
	}
	bad := arbiter.Input{Invalid: &arbiter.Invalid{Target: "x", OpID: "t-1", Error: &op.Error{}}}
	put(3, arbiter.Step{In: []arbiter.Input{bad}})
	if f := g.fate("t-1"); f.ends != 3 || f.status != op.Rejected {
		t.Errorf("refused after it has ended: %+v", f)
	}
	bad.Invalid.OpID = "t-2"
	put(4, arbiter.Step{In: []arbiter.Input{bad}})
	if f := g.fate("t-2"); f.ends != 1 || f.status != op.Rejected {
		t.Errorf("refused: %+v", f)
	}
	if g.entry(&bus.Entry{Seq: 5, Data: []byte("{")}); g.bad != 1 {
		t.Errorf("%d are bad", g.bad)
	}
}

// Whoever is asked to end may end in many ways, but not by a panic, and not never.
func TestAPartingThatIsNoFaultsDoing(t *testing.T) {
	const awake = "; echo up; while :; do sleep 0.01; done"
	for script, unexpected := range map[string]string{
		`trap "exit 0" TERM`: "",
		`trap "exit 7" TERM`: "",
		`trap "exit 2" TERM`: "ended by itself: exit status 2",
		`trap "" TERM`:       "is alive 500ms after SIGTERM",
	} {
		s := &site{Options: Options{Self: []string{"sh", "-c"}, Say: func(text string) { t.Log(text) }, slack: 500*time.Millisecond - partingTime}, logs: t.TempDir(), hits: map[string]int{}}
		v := &slot{site: s, role: partResolver, base: "r1", args: func(string) []string { return []string{script + awake} }}
		if err := v.start(); err != nil {
			t.Fatal(err)
		}
		p := v.current()
		for !strings.Contains(p.tail.last(), "up") && !p.ended() {
			rest(t.Context(), time.Millisecond)
		}
		v.mu.Lock()
		v.parked = true
		v.mu.Unlock()
		if err := v.parted(t.Context(), v.end(syscall.SIGTERM)); err != nil {
			t.Fatal(err)
		}
		v.loop.Wait()
		if got := strings.Join(s.unexpected, ", "); (unexpected == "") != (got == "") || !strings.Contains(got, unexpected) {
			t.Errorf("%s: %q", script, got)
		}
	}
}

// An answer to a bulk that leaves an operation out says nothing about any.
func TestAShortAnswerToABulk(t *testing.T) {
	_, nc := natstest.One(t)
	l := &load{nc: nc, book: newBook()}
	bulk := task{way: wayBulk, ops: []op.Operation{{ID: "a"}, {ID: "b"}}}
	for answer, want := range map[string]bool{`{"results":[{"op_id":"a"}]}`: false, `{"results":[{"op_id":"a"},{"op_id":"b"}]}`: true} {
		sub, err := nc.Subscribe(bus.APISubject("bulk"), func(m *nats.Msg) { _ = m.Respond([]byte(answer)) })
		if err != nil {
			t.Fatal(err)
		}
		if known := l.try(t.Context(), bulk, 0); known != want {
			t.Errorf("%s: all is answered: %v", answer, known)
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
	}
}
