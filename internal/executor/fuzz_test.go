package executor

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// FuzzWork: work that can be read can be reported on.
func FuzzWork(f *testing.F) {
	for _, s := range []string{
		`{"type":"ops.v1.work","partition":3,"attempt":1,"lease_ends":"2030-01-02T03:04:05.678Z","lease":30000000000,"operation":{"op_id":"a","op_type":"version_entity","target_entity_id":"door","priority":5},"entity":{"id":"door"}}`,
		`{"type":"ops.v1.work","partition":-1,"attempt":1}`, `{"type":"ops.v1.work","operation":{"op_id":"a.b"}}`, `{}`, `null`, `[`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var w op.Work
		if decodeWork(data, &w) != nil {
			return
		}
		e := &executor{cfg: Config{Name: "x1"}}
		for _, failure := range []*op.Failure{nil, {Code: w.Operation.Type, Message: string(data)}} {
			body, failed := e.result(&w, &entity.Change{Kind: entity.Noted}, failure, time.Second)
			var r op.Result
			if err := json.Unmarshal(body, &r); err != nil {
				t.Fatalf("%s is reported as %s: %v", data, body, err)
			}
			if failed != (failure != nil) || !op.Token(r.OpID) || !op.Token(r.Target) || r.OpID != w.Operation.ID || r.Attempt != w.Attempt || r.Attempt < 1 {
				t.Fatalf("%s is reported as %s", data, body)
			}
			if r.Failure != nil && (len(r.Failure.Message) > MaxFailureMessage || len(r.Failure.Code) > MaxFailureCode) {
				t.Fatalf("%s is reported with too long a failure", data)
			}
		}
	})
}

// FuzzResponse: the answer of a handler in any language is a change, a failure with
// a reason, or refused; a change that is let through can be applied or is refused
// by the entity, and can be reported.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		`{"type":"ops.v1.handler_response","effect":{"set":{"a":[1]},"version":true,"note":"n"}}`, `{"type":"ops.v1.handler_response","effect":{"create":true}}`,
		`{"type":"ops.v1.handler_response","effect":{"set":{"a":1},"source":{"a":{"entity_id":"e","version":1,"revision":2,"field":"f"}}}}`,
		`{"type":"ops.v1.handler_response","error":{"code":"c","message":"m","terminal":true}}`, `{"type":"ops.v1.handler_response","effect":{"create":true,"delete":true}}`,
		`{"type":"ops.v1.handler_response","effect":{},"error":{}}`, `{"type":"ops.v1.handler_response","effect":{"set":{"":1,"x.y":2}}}`, `{}`, ``,
		`{"type":"ops.v1.handler_response","effect":{"version":true}}}`,
	} {
		f.Add([]byte(s))
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	door, err := entity.Apply(nil, &entity.Change{Kind: entity.Created, ID: "door", Set: map[string]json.RawMessage{"a": json.RawMessage("1")}}, "o1", at)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseResponse(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted, and not JSON: %s", data)
		}
		if (r.Effect == nil) == (r.Error == nil) {
			t.Fatalf("%s says both or neither", data)
		}
		if r.Error != nil {
			if r.Error.failure().Message == "" {
				t.Fatalf("%s: a failure without a reason", data)
			}
			return
		}
		for _, before := range []*entity.Entity{nil, door} {
			c, err := r.Effect.Change(before)
			if err != nil || unfit(c) != nil {
				continue
			}
			if c.ID = "door"; before != nil {
				c.Base, c.From = before.Revision, before.Version
			}
			if _, err := entity.Apply(before, c, "o2", at); err != nil {
				continue
			}
			w := op.Work{Attempt: 1, Operation: op.Operation{ID: "o2", Target: "door"}}
			body, failed := (&executor{}).result(&w, c, nil, 0)
			var back op.Result
			var change entity.Change
			if err := json.Unmarshal(body, &back); err != nil || failed || json.Unmarshal(back.Change, &change) != nil {
				t.Fatalf("%s is reported as %s", data, body)
			}
			if _, err := entity.Apply(before, &change, "o2", at); err != nil {
				t.Fatalf("%s fits the entity, and reported as %s not: %v", data, body, err)
			}
		}
	})
}
