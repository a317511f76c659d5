package arbiter_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TestScripts plays testdata. Each file is one life of one partition:
//
//	submit a priority=LOW target=door parent=p on_conflict=queue max_retries=1 deadline=50ms
//	submit b submitter=s preemptible params=red source=e expected_version=3
//	again a                      submit the same id once more
//	array | together             the lines below are one intake message | one step
//	crowd c n=50 targets=5       many operations; priorities go round LOW, NORMAL, HIGH, CRITICAL
//	wait 10ms | wait next        what is due fires at its instant
//	late 1h                      one step after all that time, with the lines below
//	finish a | fail a error=(no route to host) terminal attempt=1 by=zombie
//	finish everything            every executing operation
//	lapse a                      time passes until the lease of a ends
//	beat a by=worker             the lease of a's attempt is prolonged
//	cancel a | cancel all target=door | cancel submitter=s | cancel ancestors=(p, q)
//	                             with the word alone, descendants are spared
//	kin p priority=10 parent=q | kin p unknown upto=3
//	policy window=0s by_type=(version_entity:50ms) by_prefix=(vip-:0s) lease=1s age=1h staged=3 executing=2
//	policy preemption=after_grace aging.every=1s types.mine paused.types=(mine)
//	                             every field of a policy, as operators name it
//	whatif a priority=LOW        a forecast; nothing is submitted
//	snapshot                     through JSON and back, in place
//	chain k n=32 parent=p        kin k1 to k32, each the parent of the one before; the last is CRITICAL
//	takeover after=1s            an epoch begins
//	explain a | open
//
// Every command is one step. Re-record with -rewrite and read the diff.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if filepath.Ext(path) != ".txt" {
			return
		}
		play(t, path)
	})
}

// play plays one file and returns what it has come to.
func play(t *testing.T, path string) *script {
	t.Helper()
	s := &script{m: arbiter.New(0), watch: newWatch(), now: epoch, sent: map[string]arbiter.Submit{}}
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		t.Helper()
		s.t = t
		out := s.run(d)
		for _, b := range s.watch.broken {
			t.Errorf("%s: %s", d.Pos, b)
		}
		return out
	})
	replayed(t, s.steps)
	return s
}

// TestEveryReasonHasAScript: testdata/reasons has one for each of op's closed
// list, which reaches it, and nothing else.
func TestEveryReasonHasAScript(t *testing.T) {
	left := files(t, "testdata/reasons")
	for _, r := range op.Reasons() {
		name := string(r.Reason)
		if !left[name] {
			t.Errorf("%s has no script", name)
			continue
		}
		delete(left, name)
		if s := play(t, "testdata/reasons/"+name+".txt"); s.watch.reasons[r.Reason] == 0 {
			t.Errorf("the script of %s reaches only %v", name, s.watch.reasons)
		}
	}
	if len(left) > 0 {
		t.Errorf("there is no reason for %v", left)
	}
}

// TestEveryArrowHasAScript: testdata/transitions has one for each arrow of op's
// table, which goes along it, and nothing else.
func TestEveryArrowHasAScript(t *testing.T) {
	left := files(t, "testdata/transitions")
	for _, from := range op.Statuses() {
		for _, to := range op.Statuses() {
			if !from.CanBecome(to) {
				continue
			}
			name := strings.ToLower(string(from) + "_" + string(to))
			if !left[name] {
				t.Errorf("%s has no script", name)
				continue
			}
			delete(left, name)
			if s := play(t, "testdata/transitions/"+name+".txt"); s.watch.arrows[arrow{from, to}] == 0 {
				t.Errorf("the script of %s goes only along %v", name, s.watch.arrows)
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("there is no arrow for %v", left)
	}
}

// files are the names in a directory, without their .txt.
func files(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range found {
		names[strings.TrimSuffix(filepath.Base(f), ".txt")] = true
	}
	return names
}

type script struct {
	t     *testing.T
	m     *arbiter.Machine
	watch *watch
	now   time.Time
	seq   uint64
	steps []arbiter.Step
	sent  map[string]arbiter.Submit
}

func (s *script) run(d *datadriven.TestData) string {
	switch d.Cmd {
	case "array", "together":
		return s.batch(d)
	case "crowd":
		return s.crowd(d)
	case "chain":
		return s.chain(d)
	case "wait":
		return s.wait(d)
	case "late":
		s.now = s.now.Add(s.duration(d.CmdArgs[0].Key))
		return s.batch(d)
	case "lapse":
		return s.lapse(d.CmdArgs[0].Key)
	case "finish":
		if d.CmdArgs[0].Key == "everything" {
			return s.finishAll()
		}
	case "snapshot":
		return s.snapshot()
	case "takeover":
		if len(d.CmdArgs) > 0 {
			s.now = s.now.Add(s.duration(d.CmdArgs[0].Vals[0]))
		}
		s.steps = append(s.steps, arbiter.Step{Schema: arbiter.StepSchema, ID: "takeover", Number: uint64(len(s.steps) + 1), At: s.now, Takeover: true})
		s.m.Step(&s.steps[len(s.steps)-1])
		return fmt.Sprintf("%d effects", len(s.steps[len(s.steps)-1].Out))
	case "whatif":
		before := string(encoded(s.t, s.m.Snapshot()))
		id, a := named(d.CmdArgs)
		f := s.m.WhatIf(s.operation(id, a), s.now, nil)
		if string(encoded(s.t, s.m.Snapshot())) != before {
			s.t.Errorf("%s: a forecast changes the machine", d.Pos)
		}
		return forecast(&f)
	case "explain":
		return s.explain(d.CmdArgs[0].Key)
	case "open":
		if busy := s.m.Executing(); len(busy) > 10 {
			return fmt.Sprintf("%d open, executing on %d targets", s.m.Open(), len(busy))
		}
		return fmt.Sprintf("%d open, executing on %v", s.m.Open(), s.m.Executing())
	}
	if d.Cmd == "submit" || d.Cmd == "cancel" {
		s.seq++
	}
	return s.step(s.input(d.Cmd, d.CmdArgs, op.Place{Seq: s.seq}))
}

// step runs one step at the script's instant and tells what followed.
func (s *script) step(in ...arbiter.Input) string {
	n := len(s.steps) + 1
	st := arbiter.Step{
		Schema: arbiter.StepSchema, ID: "step-" + strconv.Itoa(n), Number: uint64(n), Epoch: 1, Owner: "r1",
		At: s.now, Cursor: s.seq, In: in,
	}
	s.m.Step(&st)
	s.steps = append(s.steps, st)
	s.watch.see(&st)
	told := s.facts(st.Out)
	if len(st.Out) > 40 {
		told = summary(st.Out)
	}
	for _, id := range s.m.Wants() {
		told = append(told, "who is "+id+"?")
	}
	return strings.Join(told, "\n")
}

// batch makes one step of several lines; as an array they share one place in the
// log.
func (s *script) batch(d *datadriven.TestData) string {
	var in []arbiter.Input
	s.seq++
	for i, line := range strings.FieldsFunc(d.Input, func(r rune) bool { return r == '\n' }) {
		cmd, args, err := datadriven.ParseLine(line)
		if err != nil {
			d.Fatalf(s.t, "%v", err)
		}
		place := op.Place{Seq: s.seq, Index: i}
		if d.Cmd != "array" {
			s.seq++
			place = op.Place{Seq: s.seq}
		}
		in = append(in, s.input(cmd, args, place))
	}
	return s.step(in...)
}

func (s *script) crowd(d *datadriven.TestData) string {
	n, targets := 0, 1
	d.ScanArgs(s.t, "n", &n)
	d.MaybeScanArgs(s.t, "targets", &targets)
	rest := slices.DeleteFunc(d.CmdArgs[1:], func(a datadriven.CmdArg) bool { return a.Key == "n" || a.Key == "targets" })
	in := make([]arbiter.Input, n)
	for i := range in {
		s.seq++
		args := []datadriven.CmdArg{{Key: fmt.Sprintf("%s%d", d.CmdArgs[0].Key, i+1)}}
		if targets > 1 {
			args = append(args, datadriven.CmdArg{Key: "target", Vals: []string{"t" + strconv.Itoa(i%targets+1)}})
		}
		args = append(args, datadriven.CmdArg{Key: "priority", Vals: []string{[]string{"LOW", "NORMAL", "HIGH", "CRITICAL"}[i%4]}})
		in[i] = s.input("submit", append(args, rest...), op.Place{Seq: s.seq})
	}
	return s.step(in...)
}

func (s *script) chain(d *datadriven.TestData) string {
	id, a := named(d.CmdArgs)
	n := s.number(a["n"])
	in := make([]arbiter.Input, n)
	for i := range in {
		in[i].Kin = &arbiter.Kin{OpID: id + strconv.Itoa(i+1), Priority: op.Low, Parent: id + strconv.Itoa(i+2)}
	}
	in[n-1].Kin.Priority, in[n-1].Kin.Parent = op.Critical, a["parent"]
	return s.step(in...)
}

// wait steps at every instant at which something is due, as a resolver does.
func (s *script) wait(d *datadriven.TestData) string {
	next, ok := s.m.Next()
	if d.CmdArgs[0].Key == "next" {
		if !ok {
			return "nothing is due, ever"
		}
		s.now = latest(s.now, next)
		return s.at()
	}
	end := s.now.Add(s.duration(d.CmdArgs[0].Key))
	var told []string
	for ; ok && !next.After(end); next, ok = s.m.Next() {
		s.now = latest(s.now, next)
		if said := s.at(); said != "" {
			told = append(told, said)
		}
	}
	s.now = end
	return strings.Join(told, "\n")
}

// at steps and says when, unless nothing happened.
func (s *script) at() string {
	said := s.step()
	if said == "" {
		return ""
	}
	return "at " + s.since(s.now) + "\n" + said
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (s *script) lapse(id string) string {
	for range 1000 {
		next, ok := s.m.Next()
		if !ok {
			break
		}
		s.now = latest(s.now, next)
		said := s.at()
		if strings.Contains(said, id+" lapsed") {
			return said
		}
	}
	return id + " never lapses"
}

func (s *script) finishAll() string {
	var in []arbiter.Input
	for _, target := range s.m.Executing() {
		id := s.watch.executing[target]
		in = append(in, s.input("finish", []datadriven.CmdArg{{Key: id}}, op.Place{}))
	}
	return s.step(in...)
}

func (s *script) snapshot() string {
	data, err := json.Marshal(s.m.Snapshot())
	if err != nil {
		s.t.Fatal(err)
	}
	m, state := restored(s.t, data)
	s.m = m
	told := fmt.Sprintf("%d open, %d staging areas, %d remembered", len(state.Entries), len(state.Targets), len(state.Recent))
	for _, id := range m.Wants() {
		told += "\nwho is " + id + "?"
	}
	return told
}

func (s *script) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *script) since(at time.Time) string { return at.Sub(epoch).Round(time.Microsecond).String() }
