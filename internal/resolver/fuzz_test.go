package resolver

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/registry"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// recorded fails unless an input can stand in the journal and be read again.
func recorded(t *testing.T, in *arbiter.Input) {
	t.Helper()
	first, err := op.Marshal(&arbiter.Step{Schema: arbiter.StepSchema, In: []arbiter.Input{*in}})
	if err != nil {
		t.Fatalf("it cannot be recorded: %v", err)
	}
	var s arbiter.Step
	if err := json.Unmarshal(first, &s); err != nil {
		t.Fatalf("it is recorded as %s and cannot be read: %v", first, err)
	}
	if second, err := op.Marshal(&s); err != nil || !bytes.Equal(first, second) {
		t.Fatalf("it is recorded as\n%s, then as\n%s (%v)", first, second, err)
	}
}

// FuzzReport: whatever somebody says on the subject of results is refused with a
// code, or is one report within the limits, which can stand in the journal.
func FuzzReport(f *testing.F) {
	for _, s := range []string{
		`{"type":"ops.v1.result","op_id":"a","target_entity_id":"door","attempt":1,"executor":"x","duration":12,"change":{"kind":"noted"}}`,
		`{"type":"ops.v1.heartbeat","op_id":"a","target_entity_id":"door","attempt":3,"executor":"x"}`,
		`{"op_id":"a","attempt":1,"failure":{"code":"no","message":"\ud83d","terminal":true,"reason":"stale_version","current_version":3}}`,
		`{"op_id":"a.b","attempt":1}`, `{"op_id":"a","attempt":0}`, `{"op_id":"a","attempt":1,"change":[[[[]]]]}`, `{"op_id":"a","attempt":1,"change":null,"failure":null}`,
		`{}`, `null`, `[`, "{\"op_id\":\"a\",\"attempt\":1,\"executor\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var answers [][]byte
		p := &partition{results: make(chan report, 2)}
		p.receive(t.Context(), data, func(b []byte) { answers = append(answers, b) })
		if len(answers)+len(p.results) != 1 {
			t.Fatalf("%d answers and %d reports", len(answers), len(p.results))
		}
		if len(answers) > 0 {
			var e op.Error
			if err := json.Unmarshal(answers[0], &e); err != nil || e.Type != op.ErrorType || e.Code == "" {
				t.Fatalf("refused with %s", answers[0])
			}
			return
		}
		var g gathered
		g.report(<-p.results)
		in := &g.in[0]
		switch {
		case in.Beat != nil && in.Result == nil:
			if !op.Token(in.Beat.OpID) || in.Beat.Attempt < 1 || len(in.Beat.Executor) > op.MaxToken || !utf8.ValidString(in.Beat.Executor) {
				t.Fatalf("heartbeat %+v", in.Beat)
			}
		case in.Result != nil && in.Beat == nil:
			r := in.Result
			if !op.Token(r.OpID) || r.Attempt < 1 || len(r.Executor) > op.MaxToken || !utf8.ValidString(r.Executor) || len(r.Change) > maxChange {
				t.Fatalf("result %+v", r)
			}
			if fail := r.Failure; fail != nil && (len(fail.Message) > maxFailure || len(fail.Code) > op.MaxToken) {
				t.Fatalf("failure %+v", fail)
			}
		default:
			t.Fatalf("input %+v", in)
		}
		if g.bytes < len(data)/8-resultBytes && in.Result != nil && in.Result.Failure == nil && len(in.Result.Change) > len(data)/2 {
			t.Fatalf("%d bytes count as %d", len(data), g.bytes)
		}
		recorded(t, in)
	})
}

// laid is a log of four partitions that nobody reads.
type laid struct{ Log }

func (laid) Layout() bus.Layout {
	l := bus.DefaultLayout()
	l.Partitions = 4
	return l
}

// FuzzIntake: whatever is published to the intake becomes inputs that can stand in
// the journal: operations and cancels of this partition, or a word on what is wrong
// with it, with a code. Nothing is passed over, and nothing comes twice.
func FuzzIntake(f *testing.F) {
	for _, c := range [][2]string{
		{"submit", `{"op_id":"a","op_type":"version_entity"}`},
		{"submit", `[{"op_type":"version_entity"},{"op_type":"modify_field","params":{"field_name":"a","new_value":1}}]`},
		{"bulk", `[{"op_type":"version_entity","target_entity_id":"door"},{"op_type":"paint","target_entity_id":"gate"},7]`},
		{"follow", `{"op_id":"f-018f6a2e-7b1c-7000-8000-0123456789ab","op_type":"structure_follow_up","params":{"remove_child":"x"}}`},
		{"cancel", `{"op_id":"a","cascade":false}`},
		{"cancel", `{"all":true}`},
		{"cancel", `{"all":true}}`},
		{"cancel", `{}`},
		{"control", `{"ancestors":["a","b"]}`},
		{"control", `{"submitter":"ann"}`},
		{"control", `{"ancestors":["a.b"]}`},
		{"steal", `{}`},
	} {
		f.Add(c[0], "door", []byte(c[1]), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	}
	id := bus.PartitionOf("door", 4)
	f.Fuzz(func(t *testing.T, kind, key string, data []byte, trace string) {
		p := &partition{id: id, bus: laid{}, registry: registry.Builtin(), log: slog.New(slog.DiscardHandler)}
		m := bus.IntakeMsg{Seq: 7, Kind: bus.IntakeKind(kind), Key: key, Data: data, Header: map[string][]string{"traceparent": {trace}}, Time: time.Unix(0, 0)}
		var g gathered
		p.take(&g, m)
		n := len(g.in)
		if g.cursor != 7 || n == 0 || n != len(g.owner) {
			t.Fatalf("%s %q: %d inputs, cursor %d", kind, data, n, g.cursor)
		}
		places := map[op.Place]bool{}
		for i := range g.in {
			in := &g.in[i]
			var place op.Place
			switch {
			case in.Submit != nil:
				o := &in.Submit.Operation
				place = in.Submit.Place
				if !op.Token(o.ID) || !op.Token(o.Target) || !o.Priority.Valid() || bus.PartitionOf(o.Target, 4) != id || len(in.Submit.Traceparent) > maxTrace {
					t.Fatalf("%s %q: operation %+v", kind, data, o)
				}
			case in.Invalid != nil:
				place = in.Invalid.Place
				if e := in.Invalid.Error; e == nil || e.Code == "" || e.Message == "" || e.Hint == "" || in.Invalid.Target != "" && !op.Token(in.Invalid.Target) {
					t.Fatalf("%s %q: refused with %+v", kind, data, in.Invalid)
				}
			case in.Cancel != nil:
				place = in.Cancel.Place
				c := in.Cancel
				if c.OpID != "" && !op.Token(c.OpID) || len(c.Ancestors) > bus.MaxAncestors || (kind == "cancel") != op.Token(c.Target) {
					t.Fatalf("%s %q: cancel %+v", kind, data, c)
				}
			default:
				t.Fatalf("%s %q: input %+v", kind, data, in)
			}
			if place.Seq != 7 || places[place] {
				t.Fatalf("%s %q: place %+v twice, or not its own", kind, data, place)
			}
			places[place] = true
			recorded(t, in)
		}
		if p.take(&g, m); len(g.in) != n {
			t.Fatalf("%s %q: it is consumed twice", kind, data)
		}
	})
}

// FuzzDecodeStep: a message of the journal is a step of this partition and schema,
// or an error.
func FuzzDecodeStep(f *testing.F) {
	f.Add([]byte(`{"schema":"ops.v1.step","id":"x","partition":3,"step":4,"epoch":1,"owner":"r","at":"2026-01-01T00:00:00Z","cursor":5}`), 3)
	f.Add([]byte(`{"schema":"ops.v2.step"}`), 0)
	f.Add([]byte(`{`), 0)
	f.Fuzz(func(t *testing.T, data []byte, id int) {
		var s arbiter.Step
		if err := decodeStep(bus.Entry{Seq: 1, Data: data}, id, &s); err == nil && (s.Schema != arbiter.StepSchema || s.Partition != id || !json.Valid(data)) {
			t.Fatalf("accepted %s as a step of partition %d", data, id)
		}
	})
}
