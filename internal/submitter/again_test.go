package submitter

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func refusedWith(t *testing.T, b *bus.Bus, verb, body string) op.Error {
	t.Helper()
	r := request(t, b, verb, body)
	var e op.Error
	if err := json.Unmarshal(r.Data, &e); err != nil || e.Type != op.ErrorType {
		t.Fatalf("%s is no refusal", r.Data)
	}
	return e
}

// bodies are the stored messages of a kind, as the intake has them.
func bodies(t *testing.T, b *bus.Bus, kind bus.IntakeKind) (all []string) {
	t.Helper()
	s, err := b.JetStream().Stream(t.Context(), bus.StreamIntake)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		if _, k, key, err := bus.ParseIntake(m.Subject); err == nil && k == kind {
			all = append(all, key+" "+string(m.Data))
		}
	}
	return all
}

func TestCancelWays(t *testing.T) {
	b := connect(t)
	serve(t, b)
	for body, want := range map[string]string{
		`{"op_id":"a","target_entity_id":"user-1"}`:                 `user-1 {"op_id":"a"}`,
		`{"op_id":"b","target_entity_id":"user-1","cascade":false}`: `user-1 {"op_id":"b","cascade":false}`,
		`{"target_entity_id":"user-1","all":true}`:                  `user-1 {"all":true}`,
		`{"target_entity_id":"user-1","all":true,"cascade":true}`:   `user-1 {"all":true,"cascade":true}`,
	} {
		if acc := decode[op.Accepted](t, request(t, b, "cancel", body)); acc.Seq == 0 || acc.OpIDs == nil {
			t.Errorf("%s: %+v", body, acc)
		}
		all := bodies(t, b, bus.KindCancel)
		if all[len(all)-1] != want {
			t.Errorf("%s is stored as %s", body, all[len(all)-1])
		}
	}
	if acc := decode[op.Accepted](t, request(t, b, "cancel", `{"submitter":"nightly \"x\"","cascade":false}`)); acc.Seq == 0 {
		t.Errorf("%+v", acc)
	}
	asked := bodies(t, b, bus.KindControl)
	partitions := map[int]bool{}
	for _, m := range asked {
		key, body, _ := strings.Cut(m, " ")
		partitions[bus.PartitionOf(key, testPartitions)] = true
		if body != `{"submitter":"nightly \"x\"","cascade":false}` {
			t.Errorf("%s", body)
		}
	}
	if len(asked) != testPartitions || len(partitions) != testPartitions {
		t.Errorf("%v", asked)
	}
	for body, want := range map[string]string{
		`{"target_entity_id":"user-1"}`: op.CodeMissingField,
		`{"all":true}`:                  op.CodeMissingField,
		`{"op_id":"a","all":true,"target_entity_id":"user-1"}`:       op.CodeBadValue,
		`{"op_id":"a","submitter":"x"}`:                              op.CodeBadValue,
		`{"submitter":"x","target_entity_id":"user-1"}`:              op.CodeBadValue,
		`{"submitter":"` + strings.Repeat("x", op.MaxString) + `x"}`: op.CodeStringTooLong,
		`{"all":"yes"}`: op.CodeBadJSON,
	} {
		if e := refusedWith(t, b, "cancel", body); e.Code != want || e.Message == "" || e.Hint == "" {
			t.Errorf("%.60s: %+v", body, e)
		}
	}
	r := request(t, b, "cancel", `{"submitter":"x"}`, HeaderWait, "done")
	if !strings.Contains(string(r.Data), op.CodeBadValue) {
		t.Errorf("%s", r.Data)
	}
}

func letter(t *testing.T, b *bus.Bus, o op.Operation) {
	t.Helper()
	data, err := op.Marshal(map[string]any{
		"record":    op.Record{Type: op.RecordType, OpID: o.ID, Target: o.Target, Status: op.Rejected, Reason: op.MaxRetries, Priority: o.Priority},
		"operation": o,
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, bus.DeadMsg(o.ID, data))
}

func TestRetryOfTheDead(t *testing.T) {
	b := connect(t)
	serve(t, b)
	retries := 7
	dead := modify("dead", "user-1")
	dead.MaxRetries, dead.Labels, dead.Submitter, dead.Priority = &retries, map[string]string{"why": "x"}, "nightly", op.High
	letter(t, b, dead)
	first := decode[Retried](t, request(t, b, "retry", `{"op_id":"dead"}`, "traceparent", "00-retry"))
	if len(first.OpIDs) != 1 || first.OpIDs[0] != RetryID("dead") || first.Target != "user-1" || first.RetryOf != "dead" || first.Seq == 0 {
		t.Fatalf("%+v", first)
	}
	in := intake(t, b)
	if len(in) != 1 {
		t.Fatalf("%d operations", len(in))
	}
	if o := in[0]; o.ID != RetryID("dead") || o.RetryOf != "dead" || o.Retries() != 7 || o.Labels["why"] != "x" || o.Submitter != "nightly" ||
		o.Priority != op.High || string(o.Params) != string(dead.Params) || o.trace != "00-retry" {
		t.Errorf("%+v", o)
	}
	// Asked again before it is accepted: the same operation.
	if again := decode[Retried](t, request(t, b, "retry", `{"op_id":"dead"}`)); again.OpIDs[0] != first.OpIDs[0] {
		t.Errorf("%+v", again)
	}
	// Accepted: the letter is gone, and the answer is the same.
	put(t, b, bus.DeadGoneMsg("dead"))
	rec, err := op.Marshal(op.Record{Type: op.RecordType, OpID: first.OpIDs[0], Target: "user-1", Status: op.Pending, RetryOf: "dead", Seq: 1, Priority: op.Normal})
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, bus.RecordMsg(first.OpIDs[0], rec))
	if late := decode[Retried](t, request(t, b, "retry", `{"op_id":"dead"}`)); late.OpIDs[0] != first.OpIDs[0] || late.Seq != 1 || late.Target != "user-1" {
		t.Errorf("%+v", late)
	}
	if n := messages(t, b); n != 2 {
		t.Errorf("%d messages", n)
	}
	for body, want := range map[string]string{
		`{"op_id":"alive"}`: op.CodeNotFound, `{}`: op.CodeMissingField, `{"op_id":"a b"}`: op.CodeBadID, `[]`: op.CodeBadJSON,
		`{"op_id":"a","priority":1}`: op.CodeBadJSON,
	} {
		if e := refusedWith(t, b, "retry", body); e.Code != want || e.Hint == "" {
			t.Errorf("%s: %+v", body, e)
		}
	}
}

// A retry is a submission like any other: what the policy says now counts.
func TestRetryUnderThePolicy(t *testing.T) {
	b := connect(t)
	putPolicy(t, b, shop)
	serve(t, b)
	letter(t, b, modify("frozen", "frozen-1"))
	if e := refusedWith(t, b, "retry", `{"op_id":"frozen"}`); e.Code != op.CodePaused {
		t.Errorf("%+v", e)
	}
}

func TestWhatIf(t *testing.T) {
	b := connect(t)
	putPolicy(t, b, shop)
	serve(t, b)
	var asked []string
	for p := range testPartitions {
		stop, err := b.WhatIfs(p, func(data []byte, reply func([]byte)) {
			asked = append(asked, string(data)) // one question at a time
			var o op.Operation
			if err := json.Unmarshal(data, &o); err != nil {
				t.Error(err)
			}
			answer := any(op.Forecast{Type: op.ForecastType, OpID: o.ID, Target: o.Target, Outlook: op.WouldWin, Priority: o.Priority, Effective: o.Priority})
			if o.Target == "user-9" {
				answer = op.Errorf(op.CodeUnknownType, "op_type", "not under this policy")
			}
			body, err := op.Marshal(answer)
			if err != nil {
				t.Error(err)
			}
			reply(body)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	f := decode[op.Forecast](t, request(t, b, "whatif", `{"op_type":"charge","target_entity_id":"user-1","params":{"amount":1}}`))
	if f.Outlook != op.WouldWin || f.Target != "user-1" || f.OpID == "" || len(asked) != 1 || !strings.Contains(asked[0], `"priority":5`) {
		t.Errorf("%+v, asked %s", f, asked)
	}
	// What the owner judges is not judged at the edge.
	if f := decode[op.Forecast](t, request(t, b, "whatif", `{"op_type":"version_entity","target_entity_id":"frozen-1","priority":10}`)); f.Target != "frozen-1" {
		t.Errorf("%+v", f)
	}
	for body, want := range map[string]string{
		`{"op_type":"charge","target_entity_id":"user-1","params":{"amount":0}}`:                                              op.CodeBadParams,
		`[{"op_type":"version_entity","target_entity_id":"user-1"},{"op_type":"version_entity","target_entity_id":"user-1"}]`: op.CodeBadArray,
		`{"op_type":"version_entity","target_entity_id":"user-9"}`:                                                            op.CodeUnknownType,
	} {
		if e := refusedWith(t, b, "whatif", body); e.Code != want {
			t.Errorf("%s: %+v", body, e)
		}
	}
	// The news of load that the edge goes by are part of the forecast.
	partition := bus.PartitionOf("user-1", testPartitions)
	heard, err := b.Conn().SubscribeSync(bus.LoadSubject(partition))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PublishLoad(bus.Load{Partition: partition, Open: 9, MaxOpen: 10, RetryAfterMS: 250}); err != nil {
		t.Fatal(err)
	}
	if _, err := heard.NextMsg(longEnough); err != nil {
		t.Fatal(err)
	}
	for range 1000 { // it has arrived, but the submitter hears it on a goroutine of its own
		f = decode[op.Forecast](t, request(t, b, "whatif", `{"op_type":"version_entity","target_entity_id":"user-1"}`))
		if f.Outlook == op.WouldRefuse {
			break
		}
	}
	if f.Outlook != op.WouldRefuse || f.Reason != op.Overloaded || f.RetryAfterMS != 250 {
		t.Errorf("%+v", f)
	}
	if e := refusedWith(t, b, "submit", `{"op_type":"version_entity","target_entity_id":"user-1"}`); e.Code != op.CodeOverloaded || e.RetryAfterMS != 250 {
		t.Errorf("%+v", e)
	}
	if n := messages(t, b); n != 0 {
		t.Errorf("%d messages are stored", n)
	}
}
