package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// register puts a policy in force with types of the default pool.
func register(t testing.TB, b *bus.Bus, types ...string) {
	t.Helper()
	all := map[string]any{}
	for _, name := range types {
		all[name] = map[string]any{}
	}
	body, err := json.Marshal(map[string]any{"types": all})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.PutPolicy(t.Context(), body); err != nil {
		t.Fatal(err)
	}
}

// responder answers requests for the type greet.
func responder(t testing.TB, b *bus.Bus, answer func(m *nats.Msg, r map[string]any)) {
	t.Helper()
	sub, err := b.Conn().QueueSubscribe(HandlerSubject("greet"), "greeters", func(m *nats.Msg) {
		var r map[string]any
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Errorf("request %s: %v", m.Data, err)
		}
		answer(m, r)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
}

func TestRequest(t *testing.T) {
	b := real(t)
	register(t, b, "greet")
	got := owner(t, b, 1, accept)
	asked := make(chan map[string]any, 1)
	responder(t, b, func(m *nats.Msg, r map[string]any) {
		asked <- r
		_ = m.Respond([]byte(`{"type":"ops.v1.handler_response","effect":{"set":{"greeting":"hello"},"version":true,"note":"Greeted"}}`))
	})
	start(t, Config{Bus: b})
	w := custom("a")
	w.Attempt, w.Operation.Params = 3, json.RawMessage(`{"loud":true}`)
	offer(t, b, w)
	c := change(t, take(t, got))
	if d := cmp.Diff(entity.Change{
		Kind: entity.Modified, Base: 7, From: 2, Version: true, Note: "Greeted",
		Set: map[string]json.RawMessage{"greeting": json.RawMessage(`"hello"`)},
	}, c); d != "" {
		t.Error(d)
	}
	r := take(t, asked)
	deadline, err := time.Parse(time.RFC3339Nano, fmt.Sprint(r["deadline"]))
	if left := time.Until(deadline); err != nil || left < 10*time.Second || left > 30*time.Second {
		t.Errorf("deadline %v: in %s", err, left)
	}
	if ms := r["lease_ms"].(float64); ms < 10_000 || ms > 29_750 {
		t.Errorf("lease_ms %v", ms)
	}
	if s := r["heartbeat_subject"].(string); s == "" || strings.ContainsAny(s, "*> ") {
		t.Errorf("heartbeat_subject %q", s)
	}
	for _, k := range []string{"deadline", "lease_ms", "heartbeat_subject"} {
		delete(r, k)
	}
	want := map[string]any{
		"type": "ops.v1.handler_request", "attempt": 3.0, "idempotency_key": "a",
		"operation": map[string]any{"op_id": "a", "op_type": "greet", "target_entity_id": "user-1", "priority": 5.0, "params": map[string]any{"loud": true}},
	}
	var snapshot any
	if err := json.Unmarshal(w.Entity, &snapshot); err != nil {
		t.Fatal(err)
	}
	want["entity"] = snapshot
	if d := cmp.Diff(want, r); d != "" {
		t.Error(d)
	}
	w = custom("b")
	w.Entity = nil
	offer(t, b, w)
	if r := take(t, asked); r["entity"] != nil {
		t.Errorf("an entity where there is none: %v", r["entity"])
	}
	if f := take(t, got).Failure; f == nil || f.Code != CodeBadChange || !f.Terminal {
		t.Errorf("a change of what is not there: %+v", f)
	}
}

func TestAnswers(t *testing.T) {
	b := real(t)
	register(t, b, "greet")
	got := owner(t, b, 1, accept)
	var answer *nats.Msg
	responder(t, b, func(m *nats.Msg, _ map[string]any) { _ = m.RespondMsg(answer) })
	start(t, Config{Bus: b})
	header := nats.Header{"Nats-Service-Error": {"out of order"}, "Nats-Service-Error-Code": {"503"}}
	for _, c := range []struct {
		name, body string
		header     nats.Header
		edit       func(*op.Work)
		kind       entity.Kind // of a success
		failure    op.Failure
	}{
		{name: "nothing", body: `"effect":{}`, kind: entity.Noted},
		{name: "set", body: `"effect":{"set":{"a":null}}`, kind: entity.Modified},
		{name: "version", body: `"effect":{"version":true}`, kind: entity.Versioned},
		{name: "borrow", body: `"effect":{"set":{"a":1},"source":{"a":{"entity_id":"b","version":1,"revision":1,"field":"a"}}}`, kind: entity.Borrowed},
		{name: "delete", body: `"effect":{"delete":true}`, kind: entity.Deleted},
		{name: "create", body: `"effect":{"create":true,"set":{"a":1}}`, kind: entity.Created, edit: func(w *op.Work) { w.Entity = nil }},
		{name: "create what is there", body: `"effect":{"create":true}`, failure: op.Failure{Code: CodeBadChange, Terminal: true}},
		{name: "both", body: `"effect":{"create":true,"delete":true}`, failure: op.Failure{Code: CodeBadChange, Terminal: true}},
		{name: "source of nothing", body: `"effect":{"source":{"a":{"entity_id":"b"}}}`, failure: op.Failure{Code: CodeBadChange, Terminal: true}},
		{name: "field", body: `"effect":{"set":{"a.b":1}}`, failure: op.Failure{Code: CodeBadChange, Terminal: true}},
		{name: "error", body: `"error":{"code":"no_luck","message":"try again"}`, failure: op.Failure{Code: "no_luck", Message: "try again"}},
		{name: "terminal", body: `"error":{"message":"never","terminal":true}`, failure: op.Failure{Message: "never", Terminal: true}},
		{name: "silent error", body: `"error":{}`, failure: op.Failure{Message: "the handler gave no reason"}},
		{name: "neither", body: `"effect":null`, failure: op.Failure{Code: CodeBadResponse}},
		{name: "misspelt", body: `"effect":{"sett":{}}`, failure: op.Failure{Code: CodeBadResponse}},
		{name: "too much", body: `"effect":{},"error":{}`, failure: op.Failure{Code: CodeBadResponse}},
		{name: "unknown", body: `"effect":{},"thanks":1`, failure: op.Failure{Code: CodeBadResponse}},
		{name: "micro", body: "-", header: header, failure: op.Failure{Code: "503", Message: "out of order"}},
		{name: "empty", body: "-", failure: op.Failure{Code: CodeBadResponse}},
		{name: "large value", body: `"effect":{"set":{"a":"` + strings.Repeat("x", 300<<10) + `"}}`, failure: op.Failure{Code: CodeTooLarge, Terminal: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer = nats.NewMsg("")
			answer.Header = c.header
			if c.body != "-" {
				answer.Data = []byte(`{"type":"ops.v1.handler_response",` + c.body + `}`)
			}
			w := custom("a")
			if c.edit != nil {
				c.edit(&w)
			}
			offer(t, b, w)
			res := take(t, got)
			if c.kind != "" {
				if k := change(t, res).Kind; k != c.kind {
					t.Errorf("%s", k)
				}
				return
			}
			f := res.Failure
			if f == nil || f.Code != c.failure.Code || f.Terminal != c.failure.Terminal || c.failure.Message != "" && f.Message != c.failure.Message {
				t.Errorf("got %+v, want %+v", f, c.failure)
			}
		})
	}
	for _, garbage := range []string{"garbage", `[]`, `{}`, `{"type":"ops.v1.handler_request","effect":{}}`, `{"type":"ops.v1.handler_response","effect":{}} more`} {
		answer = nats.NewMsg("")
		answer.Data = []byte(garbage)
		offer(t, b, custom("a"))
		if f := take(t, got).Failure; f == nil || f.Code != CodeBadResponse || f.Terminal {
			t.Errorf("%s: %+v", garbage, f)
		}
	}
	// No server takes it by default, but some are set to.
	_, err := answered(&nats.Msg{Data: make([]byte, 2<<20)}, nil)
	if f := failureOf(err); f.Code != CodeTooLarge || !f.Terminal {
		t.Errorf("2 MiB: %+v", f)
	}
}

// Only types that the policy gives to this pool are asked for, and a type is asked
// for as soon as it is registered.
func TestWhichTypesAreRemote(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, accept)
	asked := 0
	responder(t, b, func(m *nats.Msg, _ map[string]any) {
		asked++
		_ = m.Respond([]byte(`{"type":"ops.v1.handler_response","effect":{}}`))
	})
	start(t, Config{Bus: b})
	ask := func(want string) {
		t.Helper()
		offer(t, b, custom("a"))
		f := take(t, got).Failure
		if f == nil && want != "" || f != nil && (f.Code != want || f.Terminal) {
			t.Errorf("%+v, want %q", f, want)
		}
	}
	ask(CodeNoHandler) // no policy
	for _, other := range []string{`{"types":{"greet":{"pool":"gpu"}}}`, `{"types":{"other":{}}}`, `{"types":`} {
		if _, err := b.PutPolicy(t.Context(), []byte(other)); err != nil {
			t.Fatal(err)
		}
		ask(CodeNoHandler)
	}
	if asked > 0 {
		t.Errorf("asked %d times for a type that is not ours", asked)
	}
	register(t, b, "greet", "lonely")
	ask("")
	w := custom("a")
	w.Operation.Type = "lonely"
	offer(t, b, w)
	if f := take(t, got).Failure; f == nil || f.Code != CodeNoHandler || f.Terminal {
		t.Errorf("nobody listens: %+v", f)
	}
}

// A remote handler prolongs its attempt by messages on the subject it was given.
// Each request has its own, and an answer to one is no answer to another.
func TestRemoteHeartbeats(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		register(t, b, "greet")
		got, _ := ownerOf(t, b, 1, accept, prolong(3*time.Second))
		type held struct {
			reply, beats string
		}
		asked := make(chan held, 2)
		responder(t, b, func(m *nats.Msg, r map[string]any) { asked <- held{m.Reply, r["heartbeat_subject"].(string)} })
		start(t, Config{Bus: b})
		pulse := func(subject string) pulseAck {
			t.Helper()
			m, err := b.Conn().Request(subject, []byte("any"), time.Second)
			var a pulseAck
			if err != nil || json.Unmarshal(m.Data, &a) != nil || a.Type != "ops.v1.handler_heartbeat" {
				t.Fatalf("%v %+v", err, a)
			}
			return a
		}
		offer(t, b, leased("a", 3*time.Second))
		one := take(t, asked)
		offer(t, b, leased("b", 3*time.Second))
		two := take(t, asked)
		if one.reply == two.reply || one.beats == two.beats {
			t.Fatalf("%+v and %+v", one, two)
		}
		for range 10 {
			time.Sleep(time.Second)
			if err := b.Conn().Publish(one.beats, nil); err != nil {
				t.Fatal(err)
			}
			if a := pulse(one.beats); !a.Accepted || a.LeaseMS < 500 || a.LeaseMS > 2750 {
				t.Errorf("%+v", a)
			}
		}
		if res := take(t, got); res.OpID != "b" || res.Failure == nil || res.Failure.Code != CodeTimeout {
			t.Errorf("%+v", res)
		}
		if a := pulse(two.beats); a.Accepted || a.LeaseMS != 0 {
			t.Errorf("after the end: %+v", a)
		}
		effect := []byte(`{"type":"ops.v1.handler_response","effect":{}}`)
		if err := b.Conn().Publish(two.reply, effect); err != nil { // too late, and heard by nobody
			t.Fatal(err)
		}
		synctest.Wait()
		if len(got) > 0 {
			t.Errorf("%+v", <-got)
		}
		if err := b.Conn().Publish(one.reply, effect); err != nil {
			t.Fatal(err)
		}
		if res := take(t, got); res.OpID != "a" || res.Failure != nil {
			t.Errorf("%+v", res)
		}
		empty(t, b)
	})
}

// A request that is over leaves nothing behind.
func TestRequestsAreForgotten(t *testing.T) {
	r := newRemote(real(t).Conn(), nil)
	one, end := r.begin(&Task{})
	two, endTwo := r.begin(&Task{})
	if one == two || len(r.runs) != 2 {
		t.Errorf("%s, %s: %d known", one, two, len(r.runs))
	}
	end()
	endTwo()
	if len(r.runs) != 0 {
		t.Errorf("%d are still known", len(r.runs))
	}
}

// How much is fetched ahead follows the policy, without a restart.
func TestPolicyChangesTheFeed(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got := owner(t, b, 1, accept)
		responder(t, b, func(m *nats.Msg, _ map[string]any) {
			_ = m.Respond([]byte(`{"type":"ops.v1.handler_response","effect":{}}`))
		})
		r := start(t, Config{Bus: b})
		for i, policy := range []string{`{"types":{"greet":{}}}`, `{}`, `{"types":{"greet":{}}}`} {
			if _, err := b.PutPolicy(t.Context(), []byte(policy)); err != nil {
				t.Fatal(err)
			}
			if on := take(t, r.ready); !on {
				t.Error("not ready any more")
			}
			offer(t, b, work(fmt.Sprint("w-", i)))
			if res := take(t, got); res.Failure != nil {
				t.Errorf("%+v", res)
			}
		}
		offer(t, b, custom("c"))
		if res := take(t, got); res.Failure != nil {
			t.Errorf("%+v", res)
		}
		r.end()
	})
}

// Work that nobody here can do is passed on for a while: another executor of the
// pool may know the type. After that the attempt fails.
func TestWorkIsPassedOn(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got := owner(t, b, 1, accept)
		r := start(t, Config{Bus: b})
		offer(t, b, custom("a"))
		began := time.Now()
		if f := take(t, got).Failure; f == nil || f.Code != CodeNoHandler || f.Terminal {
			t.Errorf("%+v", f)
		}
		if took := time.Since(began); took < 350*time.Millisecond || took > time.Second {
			t.Errorf("failed after %s", took)
		}
		offer(t, b, custom("b"))
		synctest.Wait() // it was given back once
		r.end()
		start(t, Config{Bus: b, Handlers: handlers(func(context.Context, *Task) (*entity.Change, error) { return nil, nil })})
		if res := take(t, got); res.OpID != "b" || res.Failure != nil {
			t.Errorf("%+v", res)
		}
	})
}
