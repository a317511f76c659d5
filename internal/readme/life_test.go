package readme

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
)

// listen subscribes to the events about the door.
func (w *wire) listen(names string) *nats.Subscription {
	w.t.Helper()
	sub, err := w.nc.SubscribeSync("ops.event." + names)
	if err != nil {
		w.t.Fatal(err)
	}
	return sub
}

// until waits for an event of an operation and returns its body.
func (w *wire) until(events *nats.Subscription, name, opID string) []byte {
	w.t.Helper()
	for {
		m := w.next(events)
		var e struct {
			Name string `json:"event"`
			OpID string `json:"op_id"`
		}
		if err := json.Unmarshal(m.Data, &e); err != nil {
			w.t.Fatal(err)
		}
		if e.Name == name && (opID == "" || e.OpID == opID) {
			return m.Data
		}
	}
}

// policy puts a policy and waits until the partition of the door decides under it.
func (w *wire) policy(text string) {
	w.t.Helper()
	var ack puback
	if err := json.Unmarshal(w.request("$KV.OPS_CONFIG.policy", []byte(text)), &ack); err != nil || ack.Seq == 0 {
		w.t.Fatalf("the policy was not stored: %v", err)
	}
	for {
		var f struct {
			Revision uint64 `json:"policy_revision"`
		}
		answer := w.request("ops.api.whatif", []byte(`{"op_type":"version_entity","target_entity_id":"door-1"}`))
		if err := json.Unmarshal(answer, &f); err != nil {
			w.t.Fatal(err)
		}
		if f.Revision >= ack.Seq {
			return
		}
	}
}

// ended reads the record of an operation, as soon as its end is on it.
func (w *wire) ended(opID string) map[string]any {
	w.t.Helper()
	for {
		var r map[string]any
		if err := json.Unmarshal(w.stored("KV_OPS_OPERATIONS", "$KV.OPS_OPERATIONS."+opID), &r); err != nil {
			w.t.Fatal(err)
		}
		switch r["status"] {
		case "SUCCEEDED", "REJECTED", "CANCELLED":
			return r
		}
	}
}

// TestProtocolHeartbeat prolongs an attempt with the heartbeat of the document, and
// has it taken away.
func TestProtocolHeartbeat(t *testing.T) {
	w := newWire(t)
	w.policy(`{"grace_period":"0s"}`)
	events := w.listen("operation.*.door-1")
	w.request("ops.submit.door-1", w.example("operation", 0))
	m := w.work()
	w.alike("the answer to a heartbeat", w.example("result_ack", 0), w.report(7, w.example("beat", 0)))

	w.request("ops.cancel.door-1", []byte(`{"op_id":"paint-1"}`))
	var e struct {
		Attempt int    `json:"attempt"`
		From    string `json:"from_state"`
	}
	if err := json.Unmarshal(w.until(events, "operation.cancelled", "paint-1"), &e); err != nil || e.Attempt != 1 || e.From != "EXECUTING" {
		t.Errorf("%v: %+v", err, e)
	}
	for _, late := range [][]byte{w.example("beat", 0), w.example("result", 0)} {
		if answer := string(w.report(7, late)); !strings.Contains(answer, `"accepted":false`) {
			t.Errorf("a report after that: %s", answer)
		}
	}
	if err := m.Ack(); err != nil {
		t.Fatal(err)
	}
}

// TestProtocolCancel sends the cancellations of the document, each against an
// operation that it should end and one that it should not.
func TestProtocolCancel(t *testing.T) {
	w := newWire(t)
	w.policy(`{"staging_window":"1h"}`)
	events := w.listen("operation.*.*")
	submit := func(id, more string) {
		w.request("ops.submit.door-1", []byte(`{"op_id":"`+id+`","op_type":"version_entity"`+more+`}`))
		w.until(events, "operation.submitted", id)
	}
	submit("paint-2", "")
	submit("child-1", `,"parent_op_id":"paint-2"`)
	submit("other", "")
	control, err := w.nc.SubscribeSync("ops.control.*")
	if err != nil {
		t.Fatal(err)
	}
	w.request("ops.cancel.door-1", w.example("cancel", 0))
	if d := cmp.Diff(canonical(t, w.example("control", 0)), canonical(t, w.next(control).Data)); d != "" {
		t.Errorf("what goes to the other partitions:\n%s", d)
	}
	for id, reason := range map[string]string{"paint-2": "cancelled", "child-1": "cancelled_with_parent"} {
		if r := w.ended(id); r["status"] != "CANCELLED" || r["reason"] != reason {
			t.Errorf("%s is %v %v", id, r["status"], r["reason"])
		}
	}

	w.request("ops.submit.door-2", []byte(`{"op_id":"grandchild","op_type":"version_entity","parent_op_id":"other"}`))
	w.until(events, "operation.submitted", "grandchild")
	w.request("ops.cancel.door-1", w.example("cancel", 1)) // all, without cascade
	w.ended("other")
	submit("later", "")
	w.alike("the answer to a cancel", []byte(`{"type":"ops.v1.submit_response","op_ids":[],"stream":"OPS_INTAKE","seq":1}`),
		w.request("ops.api.cancel", w.example("api_cancel", 0)))
	w.ended("later")

	submit("night", `,"submitter":"nightly"`)
	submit("day", "")
	w.request("ops.api.cancel", w.example("api_cancel", 1))
	w.ended("night")
	w.request("ops.control.0", w.example("control", 1)) // the same by hand; nothing is left to cancel
	submit("last", "")
	for _, id := range []string{"grandchild", "day", "last"} {
		if r := string(w.stored("KV_OPS_OPERATIONS", "$KV.OPS_OPERATIONS."+id)); !strings.Contains(r, `"PENDING"`) {
			t.Errorf("%s should have been spared: %s", id, r)
		}
	}
}

// TestProtocolDead gives an operation up and tries it again.
func TestProtocolDead(t *testing.T) {
	w := newWire(t)
	events := w.listen("operation.*.door-1")
	w.request("ops.submit.door-1", []byte(`{"op_id":"paint-5","op_type":"modify_field","params":{"field_name":"colour","new_value":"puce"}}`))
	fail := func(id string) {
		m := w.work()
		w.report(7, []byte(`{"type":"ops.v1.result","op_id":"`+id+`","target_entity_id":"door-1","attempt":1,"executor":"painter-1",`+
			`"failure":{"code":"no_paint","message":"this colour is not made any more","terminal":true}}`))
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		w.until(events, "operation.rejected", id)
	}
	fail("paint-5")
	w.alike("dead letter", w.example("dead", 0), w.stored("KV_OPS_DEAD", "$KV.OPS_DEAD.paint-5"))
	answer := w.request("ops.api.retry", []byte(`{"op_id":"paint-5"}`))
	w.alike("the answer to a retry", w.example("retried", 0), answer)
	var again, shown struct {
		IDs []string `json:"op_ids"`
	}
	if err := json.Unmarshal(answer, &again); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(w.example("retried", 0), &shown); err != nil || !cmp.Equal(again, shown) {
		t.Errorf("the id of the retry is %s, the document says %s", again.IDs, shown.IDs)
	}
	fail(again.IDs[0])
	if r := w.ended(again.IDs[0]); r["retry_of"] != "paint-5" {
		t.Errorf("the retry is one of %v", r["retry_of"])
	}
	m, err := w.nc.Request("$JS.API.STREAM.MSG.GET.KV_OPS_DEAD", []byte(`{"last_by_subj":"$KV.OPS_DEAD.paint-5"}`), 10*time.Second)
	if err != nil || strings.Contains(string(m.Data), `"data"`) {
		t.Errorf("the dead letter is still there: %v", err)
	}
}

// TestProtocolForecast asks what would become of an operation, and how full the
// partition is.
func TestProtocolForecast(t *testing.T) {
	w := newWire(t)
	news, err := w.nc.SubscribeSync("ops.load.7")
	if err != nil {
		t.Fatal(err)
	}
	w.request("ops.submit.door-1", w.example("operation", 0))
	m := w.work()
	asked := []byte(`{"op_id":"paint-3","op_type":"modify_field","target_entity_id":"door-1","params":{"field_name":"colour","new_value":"blue"}}`)
	answer := w.request("ops.api.whatif", asked)
	w.alike("forecast", w.example("forecast", 0), answer)
	for _, member := range []string{`"outlook":"wait"`, `"verdict":"won"`, `"against":"paint-1"`, `"rule":"only_contender"`} {
		if !strings.Contains(string(answer), member) {
			t.Errorf("the forecast lacks %s: %s", member, answer)
		}
	}
	w.report(7, w.example("result", 1))
	if err := m.Ack(); err != nil {
		t.Fatal(err)
	}

	w.policy(`{"operation_queue_size":2,"max_staged_per_target":2,"staging_window":"1h"}`)
	w.request("ops.submit.door-1", []byte(`{"op_type":"version_entity"}`))
	w.alike("load", w.example("load", 0), w.loaded(news))
	refusal := string(w.request("ops.api.submit", asked))
	for !strings.Contains(refusal, `"OPS-1021"`) { // the submitter may not have heard yet
		refusal = string(w.request("ops.api.submit", asked))
	}
	if !strings.Contains(refusal, `"retry_after_ms":1000`) {
		t.Errorf("the refusal says %s", refusal)
	}
}

// loaded waits for news of a target.
func (w *wire) loaded(news *nats.Subscription) []byte {
	w.t.Helper()
	for {
		if m := w.next(news); strings.Contains(string(m.Data), `"targets"`) {
			return m.Data
		}
	}
}

// TestProtocolHandler serves a type as a handler in any language does, with the
// answers of the document, through a real executor.
func TestProtocolHandler(t *testing.T) {
	w := newWire(t)
	w.policy(`{"staging_window":"0s","types":{"polish":{"pool":"polishers","schema":` +
		`{"type":"object","required":["shine"],"properties":{"shine":{"type":"integer","maximum":5}}}}}}`)
	requests, err := w.nc.QueueSubscribeSync("ops.handler.polish", "handlers")
	if err != nil {
		t.Fatal(err)
	}
	w.serve(func(ctx context.Context, b *bus.Bus) error {
		return executor.Run(ctx, executor.Config{Bus: b, Name: "executor-polishers-1", Pool: "polishers"})
	})
	w.serve(func(ctx context.Context, b *bus.Bus) error {
		return executor.Run(ctx, executor.Config{Bus: b, Name: "executor-1"})
	})
	events := w.listen("operation.*.door-1")
	submit := func(body string) {
		if answer := string(w.request("ops.api.submit", []byte(body))); strings.Contains(answer, `"ops.v1.error"`) {
			t.Fatal(answer)
		}
	}
	submit(`{"op_id":"make-1","op_type":"create_entity","target_entity_id":"door-1","params":{"fields":{"colour":"green"}}}`)
	w.until(events, "operation.completed", "make-1")

	w.alike("a param that does not fit", w.example("error", 1),
		w.request("ops.api.submit", []byte(`{"op_type":"polish","target_entity_id":"door-1","params":{"shine":99}}`)))
	if d := cmp.Diff(canonical(t, w.example("error", 1)), canonical(t,
		w.request("ops.api.submit", []byte(`{"op_type":"polish","target_entity_id":"door-1","params":{"shine":99}}`)))); d != "" {
		t.Errorf("the refusal:\n%s", d)
	}

	submit(`{"op_id":"polish-1","op_type":"polish","target_entity_id":"door-1","params":{"shine":3}}`)
	ask := w.next(requests)
	w.alike("the request to a handler", w.example("handler_request", 0), ask.Data)
	var r handlerRequest
	if err := json.Unmarshal(ask.Data, &r); err != nil {
		t.Fatal(err)
	}
	w.alike("the answer to its heartbeat", w.example("handler_heartbeat", 0), w.request(r.Heartbeat, nil))
	if err := ask.Respond(w.example("handler_response", 1)); err != nil { // the tin is empty
		t.Fatal(err)
	}
	w.until(events, "operation.retry", "polish-1")
	if err := w.next(requests).Respond(w.example("handler_response", 0)); err != nil {
		t.Fatal(err)
	}
	w.until(events, "operation.completed", "polish-1")
	if head := string(w.stored("KV_OPS_ENTITIES", "$KV.OPS_ENTITIES.door-1")); !strings.Contains(head, `"shine":3`) || !strings.Contains(head, "Polished") {
		t.Errorf("the door is %s", head)
	}
}

// TestProtocolBulk sends the bulk of the document through a submitter, with one
// mistake in it.
func TestProtocolBulk(t *testing.T) {
	w := newWire(t)
	body := strings.Replace(string(w.example("bulk", 0)), `"version_entity"`, `"versoin_entity"`, 1)
	answer := w.request("ops.api.bulk", []byte(body))
	w.alike("the answer to a bulk", w.example("bulk_response", 0), answer)
	if !strings.Contains(string(answer), "did you mean version_entity?") {
		t.Errorf("%s", answer)
	}
}

// TestProtocolPolicy puts a policy that breaks a rule.
func TestProtocolPolicy(t *testing.T) {
	w := newWire(t)
	w.policy(`{"grace_period":"0s"}`)
	told, err := w.nc.SubscribeSync("$KV.OPS_CONFIG.policy.refused")
	if err != nil {
		t.Fatal(err)
	}
	w.request("$KV.OPS_CONFIG.policy", []byte(`{"staging_windw":"1s"}`))
	m := w.next(told)
	w.alike("the refusal of a policy", w.example("policy_refused", 0), m.Data)
	var got, shown bus.PolicyRefusal
	if err := json.Unmarshal(m.Data, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(w.example("policy_refused", 0), &shown); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fmt.Sprint(shown.Error), fmt.Sprint(got.Error)); d != "" {
		t.Error(d)
	}
}
