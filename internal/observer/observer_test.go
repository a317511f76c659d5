package observer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const patience = 20 * time.Second

// journal writes hand-made steps into a real journal, and the views that go with
// them.
type journal struct {
	t     *testing.T
	ctx   context.Context
	b     *bus.Bus
	start time.Time // the instants of the steps follow it, a millisecond apart
	out   *bus.Emitter
	last  map[int]uint64 // journal sequence by partition
	steps map[int]uint64
	heads map[string]*entity.Entity
	ops   int
}

func newJournal(t *testing.T) *journal {
	t.Helper()
	_, nc := natstest.One(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	layout := bus.DefaultLayout()
	layout.Partitions, layout.Storage = 4, jetstream.MemoryStorage
	if _, err := bus.Setup(ctx, nc, layout); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	return &journal{t: t, ctx: ctx, b: b, start: time.Now().UTC(), out: b.NewEmitter(), last: map[int]uint64{}, steps: map[int]uint64{}, heads: map[string]*entity.Entity{}}
}

// at is the instant of the current step of a partition.
func (j *journal) at(p int) time.Time {
	return j.start.Add(time.Duration(j.steps[p]) * time.Millisecond)
}

// step appends a step to the partition of target and returns its sequence.
func (j *journal) step(target string, in []arbiter.Input, out ...arbiter.Effect) uint64 {
	j.t.Helper()
	p := bus.PartitionOf(target, j.b.Layout().Partitions)
	j.steps[p]++
	id := fmt.Sprintf("s%d-%d", p, j.steps[p])
	body, err := op.Marshal(&arbiter.Step{
		Schema: arbiter.StepSchema, ID: id, Partition: p, Number: j.steps[p], Epoch: 1, Owner: "resolver-1",
		At: j.at(p), In: in, Out: out,
	})
	if err != nil {
		j.t.Fatal(err)
	}
	seq, outcome, err := j.b.JournalAppend(j.ctx, p, id, body, j.last[p])
	if err != nil || outcome != bus.Committed {
		j.t.Fatalf("append: %s, %v", outcome, err)
	}
	j.last[p] = seq
	return seq
}

func (j *journal) record(r op.Record) {
	j.t.Helper()
	r.Type, r.Priority = op.RecordType, op.Normal
	body, err := op.Marshal(&r)
	if err != nil {
		j.t.Fatal(err)
	}
	j.out.Add(bus.RecordMsg(r.OpID, body))
	if err := j.out.Flush(j.ctx); err != nil {
		j.t.Fatal(err)
	}
}

// change has one operation submitted, granted and succeed with a change of id,
// and publishes the head after it.
func (j *journal) change(id string, c entity.Change) string {
	j.t.Helper()
	j.ops++
	opID := fmt.Sprintf("op-%d", j.ops)
	before := j.heads[id]
	if c.ID = ""; before == nil {
		c.ID = id
	} else {
		c.Base, c.From = before.Revision, before.Version
	}
	in := submit(opID, id, op.Normal)
	in.Submit.Operation.Submitter = "tester"
	j.step(id, []arbiter.Input{in}, accepted(opID))
	j.step(id, nil, decision(id, opID, ms(0), contends(opID, 5, op.VerdictWon)), granted(opID, id, 1))
	body, err := op.Marshal(&c)
	if err != nil {
		j.t.Fatal(err)
	}
	seq := j.step(id, []arbiter.Input{result(opID, id, string(body))}, succeeded(opID, id, 0))
	p := bus.PartitionOf(id, j.b.Layout().Partitions)
	after, err := entity.Apply(before, &c, opID, j.at(p))
	if err != nil {
		j.t.Fatal(err)
	}
	j.heads[id] = after
	head, err := op.Marshal(struct {
		JournalSeq uint64 `json:"journal_seq"`
		*entity.Entity
	}{seq, after})
	if err != nil {
		j.t.Fatal(err)
	}
	j.out.Add(bus.EntityMsg(id, head))
	if err := j.out.Flush(j.ctx); err != nil {
		j.t.Fatal(err)
	}
	return opID
}

func set(field, value string) map[string]json.RawMessage {
	return map[string]json.RawMessage{field: json.RawMessage(value)}
}

// door writes an entity of three versions with changes between them.
func (j *journal) door() {
	j.change("door", entity.Change{Kind: entity.Created, Set: set("colour", `"red"`)})
	j.change("door", entity.Change{Kind: entity.Modified, Set: set("colour", `"green"`)})
	j.change("door", entity.Change{Kind: entity.Versioned, Version: true, Note: "second"})
	j.change("door", entity.Change{Kind: entity.Modified, Set: set("sizes", `[{"mm":900}]`)})
}

func (j *journal) value(addr string) (string, error) {
	a, err := ParseAddr(addr)
	if err != nil {
		return "", err
	}
	v, err := Value(j.ctx, j.b, a)
	return string(v), err
}

func code(err error) string {
	if e := op.AsError(err); e != nil {
		return e.Code
	}
	return ""
}

func TestOldVersionsHaveTheSameBytesForEver(t *testing.T) {
	j := newJournal(t)
	j.door()
	second, err := j.value("@door~2")
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"@door.sizes.0.mm": `900`, "door.colour": `"green"`, "@door~1.colour": `"red"`, "door~2.colour": `"green"`,
	} {
		if got, err := j.value(addr); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", addr, got, err, want)
		}
	}
	j.change("door", entity.Change{Kind: entity.Modified, Set: set("colour", `"blue"`)})
	j.change("door", entity.Change{Kind: entity.Deleted, Version: true})
	if again, err := j.value("@door~2"); err != nil || again != second {
		t.Errorf("version 2 was\n%s\nand is now (%v)\n%s", second, err, again)
	}
	for addr, want := range map[string]string{
		"@door~9": op.CodeNotFound, "@door~2.nothing": op.CodeNotFound, "@gate": op.CodeNotFound, "@gate~1": op.CodeNotFound,
		"@do or": op.CodeBadID, "@door~x": op.CodeBadValue,
	} {
		if _, err := j.value(addr); code(err) != want {
			t.Errorf("%s: %v, want %s", addr, err, want)
		}
	}
}

func TestHistory(t *testing.T) {
	j := newJournal(t)
	j.door()
	// A step may speak of several entities; each has its own history.
	other := j.neighbour("door")
	j.step("door", []arbiter.Input{submit("op-n", other, 5)}, accepted("op-n"))
	j.step("door", []arbiter.Input{result("op-n", other, `{"kind":"created","id":"`+other+`","note":"of door","set":{"next":"door"}}`)}, succeeded("op-n", other, 0))
	got, err := History(j.ctx, j.b, "door")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, h := range got {
		lines = append(lines, fmt.Sprintf("r%d v%d %s %s %s by %s at %d, entry %d %s",
			h.Revision, h.Version, h.OpID, h.OpType, h.Kind, h.Submitter, h.At.Sub(j.start).Milliseconds(), h.JournalSeq, h.Note))
	}
	want := []string{
		"r1 v1 op-1 modify_field created by tester at 3, entry 3 ",
		"r2 v1 op-2 modify_field modified by tester at 6, entry 6 ",
		"r3 v2 op-3 modify_field versioned by tester at 9, entry 9 second",
		"r4 v2 op-4 modify_field modified by tester at 12, entry 12 ",
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if _, err := History(j.ctx, j.b, "gate"); code(err) != op.CodeNotFound {
		t.Errorf("history of nobody: %v", err)
	}
	if _, err := History(j.ctx, j.b, "a.b"); code(err) != op.CodeBadID {
		t.Errorf("history of a bad id: %v", err)
	}
}

// neighbour is an id in the same partition as id.
func (j *journal) neighbour(id string) string {
	n := j.b.Layout().Partitions
	for i := 0; ; i++ {
		if other := fmt.Sprint("neighbour-", i); bus.PartitionOf(other, n) == bus.PartitionOf(id, n) {
			return other
		}
	}
}

func TestLineage(t *testing.T) {
	j := newJournal(t)
	house := "house"
	j.change("house", entity.Change{Kind: entity.Created, AddChild: "door"})
	j.change("house", entity.Change{Kind: entity.Versioned, Version: true, AddChild: "roof"})
	j.change("door", entity.Change{Kind: entity.Created, Parent: &house, Root: &house, AddChild: "knob"})
	door := "door"
	j.change("knob", entity.Change{Kind: entity.Created, Parent: &door, Root: &house})
	got, err := Lineage(j.ctx, j.b, "door")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]LineageNode{{ID: "house", Version: 2, Revision: 2}}, got.Ancestors); d != "" {
		t.Errorf("ancestors (-want +got):\n%s", d)
	}
	want := LineageNode{ID: "door", Version: 1, Revision: 1, Children: []LineageNode{{ID: "knob", Version: 1, Revision: 1}}}
	if d := cmp.Diff(want, got.Entity); d != "" {
		t.Errorf("below (-want +got):\n%s", d)
	}
	root, err := Lineage(j.ctx, j.b, "house")
	if err != nil || len(root.Versions) != 2 || !root.Entity.Children[1].Missing || root.RootID != "house" {
		t.Errorf("%+v, %v", root, err)
	}
}

// duel writes a conflict on a target and the records of both sides.
func (j *journal) duel(target, winner, loser string) {
	j.t.Helper()
	j.step(target, []arbiter.Input{submit(winner, target, op.High), submit(loser, target, op.Normal)}, accepted(winner), accepted(loser))
	seq := j.step(target, nil, decision(target, winner, ms(0), at(contends(winner, 8, op.VerdictWon), 1), at(contends(loser, 5, op.VerdictRejected), 2)),
		granted(winner, target, 1), rejected(loser, target, op.LowerPriority))
	j.record(op.Record{OpID: winner, OpType: op.TypeVersion, Target: target, Status: op.Executing, Attempt: 1, Decision: "d0-1-1", DecisionSeq: seq})
	j.record(op.Record{OpID: loser, OpType: op.TypeModifyField, Target: target, Status: op.Rejected, Reason: op.LowerPriority, Winner: winner, Decision: "d0-1-1", DecisionSeq: seq})
}

func TestExplainReadsTheDecisionFromTheJournal(t *testing.T) {
	j := newJournal(t)
	j.duel("user-42", "38f0", "3943")
	x, err := Explain(j.ctx, j.b, "3943")
	if err != nil {
		t.Fatal(err)
	}
	if x.Decision == nil || x.DecisionSeq != 2 || x.Owner != "resolver-1" || *x.Policy != 7 || x.WouldHaveWon.Priority != 9 {
		t.Errorf("%+v", x)
	}
	want := []ContenderEntry{
		{Contender: x.Decision.Contenders[0], OpType: op.TypeVersion, Status: op.Executing},
		{Contender: x.Decision.Contenders[1], OpType: op.TypeModifyField, Status: op.Rejected, This: true},
	}
	if d := cmp.Diff(want, x.Contenders); d != "" {
		t.Errorf("contenders (-want +got):\n%s", d)
	}
	if x.Text[0] != "It lost to 38f0 on user-42: effective priority NORMAL(5) against HIGH(8)." {
		t.Error(x.Text)
	}
	j.record(op.Record{OpID: "old", Target: "x", Status: op.Rejected, Reason: op.LowerPriority, DecisionSeq: 999})
	if x, err := Explain(j.ctx, j.b, "old"); err != nil || !strings.Contains(strings.Join(x.Text, "\n"), "no longer holds entry 999") {
		t.Errorf("a decision that is gone: %+v, %v", x, err)
	}
	if _, err := Explain(j.ctx, j.b, "nobody"); code(err) != op.CodeNotFound {
		t.Errorf("an operation that is not there: %v", err)
	}
	if _, err := Status(j.ctx, j.b, "a b"); code(err) != op.CodeBadID {
		t.Errorf("a bad id: %v", err)
	}
}

// lines is a console that passes what is written to a channel.
type lines chan string

func (l lines) Write(b []byte) (int, error) { l <- string(b); return len(b), nil }

// observe runs an observer until the test ends and returns it once it is ready.
func (j *journal) observe(console lines) *Observer {
	j.t.Helper()
	ready := make(chan bool, 2)
	o, err := New(Config{Bus: j.b, Name: "observer-1", Version: "v1.2.3", Console: console, Ready: func(is bool) { ready <- is }})
	if err != nil {
		j.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(j.ctx)
	done := make(chan error, 1)
	// The steps are written by hand and follow from nothing: what is found is not told.
	o.live.auditor = audit.New(audit.Options{})
	go func() { done <- o.Run(ctx) }()
	j.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			j.t.Errorf("run: %v", err)
		}
		if <-ready {
			j.t.Error("a stopped observer says that it is ready")
		}
	})
	select {
	case is := <-ready:
		if !is {
			j.t.Fatal("told that it is not ready")
		}
	case err := <-done:
		done <- err
		j.t.Fatalf("run ended: %v", err)
	case <-j.ctx.Done():
		j.t.Fatal("never ready")
	}
	return o
}

// ask sends a question to the API.
func (j *journal) ask(answer any, verb string, args ...string) *nats.Msg {
	j.t.Helper()
	m, err := j.b.Conn().RequestWithContext(j.ctx, bus.APISubject(verb, args...), nil)
	if err != nil {
		j.t.Fatalf("%s %v: %v", verb, args, err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		j.t.Fatalf("%s %v: %v in %s", verb, args, err, m.Data)
	}
	return m
}

// until polls for a fact.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func TestObserver(t *testing.T) {
	j := newJournal(t)
	j.door()
	j.duel("user-42", "38f0", "3943")
	m, err := j.b.Join(j.ctx, "resolver-1", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	console := make(lines, 100)
	o := j.observe(console)

	// Ready means that the past is folded, and the console does not repeat it.
	var s Stats
	j.ask(&s, "stats")
	if s.Submitted != 6 || s.Completed != 4 || s.Rejected != 1 || s.ConflictsResolved != 1 || s.Executing != 1 || !s.Balanced || s.JournalSeq != 14 || s.MemoryMB <= 0 {
		t.Errorf("%+v", s)
	}
	j.duel("user-7", "w", "l")
	select {
	case l := <-console:
		if !strings.HasSuffix(l, "  w beat l on user-7: 8 > 5\n") {
			t.Errorf("console: %q", l)
		}
	case <-j.ctx.Done():
		t.Fatal("no line on the console")
	}

	var e entity.Entity
	j.ask(&e, "entity", "door~1")
	if e.Version != 1 || string(e.Fields["colour"]) != `"red"` {
		t.Errorf("entity: %+v", e)
	}
	var colour string
	if j.ask(&colour, "entity", "@door.colour"); colour != "green" {
		t.Errorf("field: %s", colour)
	}
	var r op.Record
	if j.ask(&r, "status", "38f0"); r.Status != op.Executing {
		t.Errorf("status: %+v", r)
	}
	var x Explanation
	if j.ask(&x, "explain", "3943"); x.Decision == nil || x.Decision.Winner != "38f0" {
		t.Errorf("explain: %+v", x)
	}
	var h []HistoryEntry
	if j.ask(&h, "history", "door"); len(h) != 4 {
		t.Errorf("history: %+v", h)
	}
	var l LineageTree
	if j.ask(&l, "lineage", "door"); l.Entity.ID != "door" {
		t.Errorf("lineage: %+v", l)
	}
	var under Executing
	if j.ask(&under, "executing"); len(under.Attempts) != 2 || under.Attempts[0].OpID != "38f0" || under.Attempts[0].Owner != "resolver-1" {
		t.Errorf("executing: %+v", under)
	}
	var wrong op.Error
	if m := j.ask(&wrong, "status", "nobody"); wrong.Code != op.CodeNotFound || m.Header.Get(micro.ErrorCodeHeader) != "1018" {
		t.Errorf("status of nobody: %+v, header %v", wrong, m.Header)
	}
	j.healthy(o, m)
}

// healthy follows the health from well to ill.
func (j *journal) healthy(o *Observer, m *bus.Membership) {
	t := j.t
	var h Health
	until(t, "healthy", func() bool { j.ask(&h, "health"); return h.Status == Healthy })
	if h.Checks.Registry.EntityCount != 1 || h.Checks.EventBus.Resolvers != 1 || h.Checks.Operations.ExecutingCount != 2 {
		t.Errorf("%+v", h.Checks)
	}
	w := httptest.NewRecorder()
	o.HealthHandler().ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"ecs_registry":{"status":"healthy"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	o.StatsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/stats", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"grace_period_saves":`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}

	j.letters(o)

	// Without a resolver, and with something in the intake that nobody reads.
	if err := m.Leave(j.ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := j.b.Publish(j.ctx, bus.SubmitSubject("door"), []byte(`{}`), "", nil); err != nil {
		t.Fatal(err)
	}
	q := &prober{b: j.b, m: o.cfg.Metrics}
	o.ask(j.ctx, q)
	o.ask(j.ctx, q)
	h = o.Health()
	p := bus.PartitionOf("door", 4)
	if h.Status != Broken || h.Checks.EventBus.QueueSize != 1 || !slices.Contains(h.Reasons, fmt.Sprintf("partition %d has submissions waiting and does not move", p)) {
		t.Errorf("%+v", h)
	}
	w = httptest.NewRecorder()
	o.HealthHandler().ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
	if w.Code != 503 {
		t.Errorf("a failed system answers %d", w.Code)
	}
}

// letters: what was given up is counted, and what was tried again is not.
func (j *journal) letters(o *Observer) {
	j.out.At(100)
	for _, id := range []string{"a", "b"} {
		j.out.Add(bus.DeadMsg(id, []byte(`{}`)))
	}
	j.out.At(101)
	j.out.Add(bus.DeadGoneMsg("a"))
	if err := j.out.Flush(j.ctx); err != nil {
		j.t.Fatal(err)
	}
	q := &prober{b: j.b, m: o.cfg.Metrics}
	for range 2 { // the second one has no news and counts nothing
		if o.ask(j.ctx, q); o.Health().Checks.Operations.DeadLetters != 1 {
			j.t.Errorf("%+v", o.Health().Checks.Operations)
		}
	}
}

func TestAStepOfANewerReleaseIsNotFatal(t *testing.T) {
	j := newJournal(t)
	if _, _, err := j.b.JournalAppend(j.ctx, 0, "x", []byte(`{"schema":"ops.v9.step"}`), 0); err != nil {
		t.Fatal(err)
	}
	j.last[0] = 1
	j.duel("user-42", "a", "b")
	o := j.observe(nil)
	if s := o.Stats(); s.Unreadable != 1 || s.ConflictsResolved != 1 {
		t.Errorf("%+v", s.Totals)
	}
	if h := o.Health(); !strings.Contains(strings.Join(h.Reasons, "\n"), "schema") {
		t.Errorf("%+v", h)
	}
}

func TestWatch(t *testing.T) {
	j := newJournal(t)
	j.duel("user-1", "a", "b")
	e, err := j.b.JournalGet(j.ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	first := func(q WatchQuery) Line {
		t.Helper()
		for l, err := range Watch(j.ctx, j.b, q) {
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		t.Fatal("the watch ended")
		return Line{}
	}
	if l := first(WatchQuery{FromSeq: 1}); l.Seq != 1 || l.Event != op.EventSubmitted {
		t.Errorf("from the first: %+v", l)
	}
	if l := first(WatchQuery{FromSeq: 1, Filter: Filter{Loud: true}}); l.Text != "a beat b on user-1: 8 > 5" {
		t.Errorf("loud: %+v", l)
	}
	after, err := begin(j.ctx, j.b, &WatchQuery{Since: e.Time.Add(time.Nanosecond)})
	if err != nil || after != 1 {
		t.Errorf("since just after the first entry: after %d, %v", after, err)
	}
	if after, err = begin(j.ctx, j.b, &WatchQuery{Since: e.Time}); err != nil || after != 0 {
		t.Errorf("since the first entry: after %d, %v", after, err)
	}
	if after, err = begin(j.ctx, j.b, &WatchQuery{}); err != nil || after != 2 {
		t.Errorf("from now on: after %d, %v", after, err)
	}
	ctx, cancel := context.WithCancel(j.ctx)
	cancel()
	for l, err := range Watch(ctx, j.b, WatchQuery{FromSeq: 100}) {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%+v, %v", l, err)
		}
	}
}
