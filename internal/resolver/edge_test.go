package resolver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// dead reads the letter of an operation that was given up.
func (w *world) dead(id string) (op.Dead, bool) {
	w.t.Helper()
	var d op.Dead
	data, found, err := w.bus.DeadLetter(w.t.Context(), id)
	if err == nil && found {
		err = json.Unmarshal(data, &d)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return d, found
}

func TestWhatWasGivenUpIsKeptUntilItIsTriedAgain(t *testing.T) {
	bubble(t, 1, `{"staging_window":"0s","retry_base_delay":"1ms"}`, func(w *world) {
		first := w.resolver("r1")
		feed := w.work(op.DefaultPool)
		w.submit("door", `{"op_id":"broken","op_type":"create_entity","labels":{"why":"test"},"params":{"fields":{"a":1}}}`)
		w.fail(w.take(feed), op.Failure{Code: "no_paint", Message: "the tin is empty", Terminal: true})
		w.submit("door", `{"op_id":"tired","op_type":"create_entity","max_retries":0}`)
		w.fail(w.take(feed), op.Failure{Message: "no"})
		w.submit("door", `{"op_id":"stale","op_type":"create_entity"}`)
		w.fail(w.take(feed), op.Failure{Message: "old", Terminal: true, Reason: op.StaleVersion})
		for _, id := range []string{"broken", "tired", "stale"} {
			w.end(id)
		}
		w.heard(op.EventRejected, "stale") // letters are told before it
		d, found := w.dead("broken")
		if !found || d.Type != op.DeadType || d.Record.Reason != op.TerminalError || d.Record.Error.Code != "no_paint" ||
			d.Operation.Labels["why"] != "test" || string(d.Operation.Params) != `{"fields":{"a":1}}` {
			t.Errorf("the letter of broken: %+v", d)
		}
		if d, found := w.dead("tired"); !found || d.Record.Reason != op.MaxRetries {
			t.Errorf("the letter of tired: %v %+v", found, d)
		}
		if _, found := w.dead("stale"); found {
			t.Error("a stale version was kept: trying it again cannot help")
		}
		w.policy(`{"staging_window":"1h","paused":{"targets":["door"]}}`)
		w.eventually("the pause", func() bool { return w.revision() > 1 })
		w.submit("door", `{"op_id":"turned-away","op_type":"create_entity","retry_of":"broken"}`)
		if r := w.end("turned-away"); r.Reason != op.Paused || r.RetryOf != "broken" {
			t.Errorf("%+v", r)
		}
		w.heard(op.EventRejected, "turned-away")
		if _, found := w.dead("broken"); !found {
			t.Error("a retry that was turned away has taken the letter with it")
		}
		w.policy(`{"staging_window":"1h"}`)
		w.eventually("the end of the pause", func() bool { return w.revision() > 2 })
		w.submit("door", `{"op_id":"again","op_type":"create_entity","retry_of":"broken"}`)
		if e := w.heard(op.EventSubmitted, "again"); e.RetryOf != "broken" {
			t.Errorf("%+v", e)
		}
		gone := func(when string) {
			if _, found := w.dead("broken"); found {
				t.Errorf("the letter of an operation that is tried again is there, %s", when)
			}
			if _, found := w.dead("tired"); !found {
				t.Errorf("the other letter is gone, %s", when)
			}
		}
		gone("as told first")
		first.stop()
		w.forget(true) // but the letters
		w.resolver("r2")
		w.is("again", op.Pending)
		gone("told again")
	})
}

// revision is the newest policy that a partition has recorded, counted from 1.
func (w *world) revision() int {
	n := 0
	for _, s := range w.journal() {
		for _, in := range s.In {
			if in.Policy != nil {
				n++
			}
		}
	}
	return n
}

const billing = `{"staging_window":"0s","types":{"charge":{"pool":"billing","priority":8,"schema":{
	"required":["amount"],"properties":{"amount":{"type":"number","minimum":1}}}}}}`

func TestTypesComeAndGoWithThePolicy(t *testing.T) {
	bubble(t, 1, "", func(w *world) {
		m := metrics.New("test")
		w.resolver("r1", func(c *resolver.Config) { c.Metrics = m.Resolver() })
		w.submit("till", `{"op_id":"early","op_type":"charge","params":{"amount":5}}`)
		w.eventually("a refusal", func() bool { return len(w.invalid()) == 1 })
		if e := w.invalid()[0]; e.Code != op.CodeUnknownType {
			t.Errorf("before the type is registered: %+v", e)
		}
		w.policy(billing)
		w.eventually("the policy", func() bool { return w.revision() == 1 })
		feed := w.work("billing")
		w.submit("till", `{"op_id":"good","op_type":"charge","params":{"amount":5}}`)
		if k := w.take(feed); k.Operation.ID != "good" || k.Operation.Priority != op.High {
			t.Errorf("%+v", k)
		}
		w.submit("till", `{"op_id":"bad","op_type":"charge","params":{"amount":"five"}}`)
		w.submit("till", `[{"op_id":"one","op_type":"charge","params":{"amount":1}},{"op_id":"two","op_type":"charge"}]`)
		w.send(bus.BulkSubject("till"), `[{"op_type":"charge","target_entity_id":"till","op_id":"b1"},
			{"op_type":"charge","target_entity_id":"till","op_id":"b2","on_conflict":"queue","params":{"amount":2}}]`)
		w.is("b2", op.Pending) // alone of its bulk
		w.eventually("three refusals", func() bool { return len(w.invalid()) == 4 })
		for i, want := range []string{"params.amount", "[1].params.amount", "params.amount"} {
			if e := w.invalid()[i+1]; e.Code != op.CodeBadParams || e.Detail == nil || e.Detail.Field != want {
				t.Errorf("refusal %d: %+v %+v", i, e, e.Detail)
			}
		}
		w.refusedPolicy(m)
		w.submit("till", `{"op_id":"still","op_type":"charge","on_conflict":"queue","params":{"amount":5}}`)
		w.is("still", op.Pending)
		w.policy(`{"staging_window":"0s"}`)
		if r := w.end("still"); r.Reason != op.UnknownType {
			t.Errorf("after the type is gone: %+v", r)
		}
		w.journal()
	})
}

// refusedPolicy writes two policies that cannot be put into force, and waits
// until that can be seen.
func (w *world) refusedPolicy(m *metrics.Registry) {
	w.t.Helper()
	before := w.revision()
	w.policy(`{"stagin_window":"0s"}`)
	w.policy(`{"types":{"charge":{"schema":{"properties":{"amount":{"minimun":1}}}}}}`)
	var r bus.PolicyRefusal
	w.eventually("both refusals", func() bool {
		var err error
		if r, _, err = w.bus.PolicyRefused(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		return gathered(w.t, m, "ops_resolver_policies_refused_total") == 2 && r.Error != nil && r.Error.Field != ""
	})
	_, rev, err := w.bus.Policy(w.t.Context())
	if err != nil || r.Revision != rev || r.Error.Field != "types.charge.schema/properties/amount/minimun" {
		w.t.Errorf("revision %d, %v: %+v %+v", rev, err, r, r.Error)
	}
	if after := w.revision(); after != before {
		w.t.Errorf("%d policies were put into force", after-before)
	}
}

// invalid lists what was refused where it was read.
func (w *world) invalid() []op.Event {
	var all []op.Event
	for _, e := range w.told() {
		if e.Name == op.EventInvalid {
			all = append(all, e)
		}
	}
	return all
}

func TestAPartitionSaysWhenItFillsUp(t *testing.T) {
	bubble(t, 2, `{"staging_window":"1h","operation_queue_size":10,"max_staged_per_target":4}`, func(w *world) {
		w.resolver("r1")
		heard := make(chan bus.Load, 1000)
		stop, err := w.bus.WatchLoad(func(l bus.Load) { heard <- l })
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		p := bus.PartitionOf("door", 2)
		w.submit("door", `{"op_id":"d0","op_type":"create_entity"}`)
		w.is("d0", op.Pending)
		pass(3 * time.Second)
		if len(heard) > 0 {
			t.Fatalf("an empty partition says %+v", <-heard)
		}
		w.submit("door", `{"op_id":"d1","op_type":"create_entity"}`)
		w.submit("door", `{"op_id":"d2","op_type":"create_entity"}`)
		w.is("d2", op.Pending)
		for range len(heard) {
			<-heard
		}
		pass(2 * time.Second)
		if n := len(heard); n < 8 || n > 12 {
			t.Errorf("%d news in 2 s, want about 10", n)
		}
		l := <-heard
		if l.Partition != p || l.Open != 3 || l.MaxOpen != 10 || l.Targets["door"] != 3 || l.MaxStaged != 4 || l.RetryAfterMS != 1000 {
			t.Errorf("%+v", l)
		}
		for range len(heard) {
			<-heard
		}
		w.send(bus.CancelSubject("door"), `{"all":true}`)
		w.end("d2")
		pass(2 * time.Second)
		var last bus.Load
		n := len(heard)
		for range n {
			last = <-heard
		}
		if n == 0 || n > 3 || last.Open != 0 || len(last.Targets) > 0 {
			t.Errorf("of %d news the last one is %+v, want that all is well, once", n, last)
		}
	})
}

// ask is a dry run.
func (w *world) ask(target, format string, args ...any) (op.Forecast, *op.Error) {
	w.t.Helper()
	answer, err := w.bus.WhatIf(w.t.Context(), bus.PartitionOf(target, w.bus.Layout().Partitions), fmt.Appendf(nil, format, args...))
	if err != nil {
		w.t.Fatal(err)
	}
	var f op.Forecast
	var e op.Error
	if err := errors.Join(json.Unmarshal(answer, &f), json.Unmarshal(answer, &e)); err != nil {
		w.t.Fatal(err)
	}
	if e.Type == op.ErrorType {
		return f, &e
	}
	return f, nil
}

func TestADryRunSaysWhatWouldHappen(t *testing.T) {
	bubble(t, 8, `{"staging_window":"1h","types":{"charge":{"schema":{"required":["amount"]}}}}`, func(w *world) {
		w.resolver("r1")
		far := w.elsewhere(bus.PartitionOf("door", 8), 2)
		w.submit(far[0], `{"op_id":"grandma","op_type":"create_entity","priority":10}`)
		w.submit(far[1], `{"op_id":"mother","op_type":"create_entity","priority":3,"parent_op_id":"grandma"}`)
		w.submit("door", `{"op_id":"rival","op_type":"create_entity","priority":8}`)
		for _, id := range []string{"grandma", "mother", "rival"} {
			w.is(id, op.Pending)
		}
		steps := len(w.journal())
		f, bad := w.ask("door", `{"op_type":"create_entity","target_entity_id":"door","priority":5}`)
		if bad != nil || f.Outlook != op.WouldLose || f.Against != "rival" || f.Reason != op.LowerPriority || f.Staged != 1 {
			t.Errorf("a weaker one: %+v %v", f, bad)
		}
		f, bad = w.ask("door", `{"op_type":"create_entity","target_entity_id":"door","priority":5,"parent_op_id":"mother"}`)
		if bad != nil || f.Outlook != op.WouldWin || f.Effective != op.Critical || len(f.Path) != 2 || f.Path[1] != "grandma" {
			t.Errorf("with ancestors in other partitions: %+v %v", f, bad)
		}
		f, bad = w.ask("door", `{"op_type":"create_entity","target_entity_id":"door","priority":9,"parent_op_id":"nobody"}`)
		if bad != nil || f.Outlook != op.WouldWin || f.UnknownParent != "nobody" {
			t.Errorf("with a parent that nobody knows: %+v %v", f, bad)
		}
		for body, code := range map[string]string{
			``: op.CodeBadJSON,
			`{"op_type":"nonsense","target_entity_id":"door"}`: op.CodeUnknownType,
			`{"op_type":"charge","target_entity_id":"door"}`:   op.CodeBadParams,
			`{"op_type":"create_entity"}`:                      op.CodeMissingField,
			`[{"op_type":"create_entity","target_entity_id":"door"},{"op_type":"create_entity","target_entity_id":"door","op_id":"two"}]`: op.CodeBadArray,
			`{"op_type":"create_entity","target_entity_id":"` + far[0] + `"}`:                                                             op.CodeTargetDiffers,
		} {
			if _, bad := w.ask("door", "%s", body); bad == nil || bad.Code != code {
				t.Errorf("%s: %v, want %s", body, bad, code)
			}
		}
		if after := len(w.journal()); after != steps {
			t.Errorf("%d steps were written for dry runs", after-steps)
		}
	})
}
