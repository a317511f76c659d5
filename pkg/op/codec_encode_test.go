package op_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestEncodeIsWhatMarshalWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		o := op.Operation{
			ID: "a", Type: text.Draw(t, "type"), Target: text.Draw(t, "target"), Priority: op.Priority(rapid.IntRange(1, 10).Draw(t, "priority")),
			Parent: text.Draw(t, "parent"), Source: text.Draw(t, "source"), OnConflict: op.OnConflictQueue,
			Preemptible: rapid.Bool().Draw(t, "preemptible"), Submitter: string(rapid.SliceOf(rapid.Byte()).Draw(t, "submitter")),
			Labels: rapid.MapOf(text, text).Draw(t, "labels"),
		}
		if rapid.Bool().Draw(t, "all") {
			o.Params, o.CreatedAt = json.RawMessage(`{"a":"<&>"}`), json.RawMessage(`12`)
			o.MaxRetries, o.ExpectedVersion = ptr(rapid.Int().Draw(t, "retries")), ptr(rapid.Int64().Draw(t, "version"))
			o.Deadline = &op.Deadline{After: time.Duration(rapid.Int64Min(1).Draw(t, "deadline"))}
		}
		got, err := op.Encode(&o)
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := op.Marshal(o); !bytes.Equal(got, want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

func TestEncodeRefusesWhatIsNotJSON(t *testing.T) {
	if _, err := op.Encode(&op.Operation{Params: json.RawMessage(`{"a":`)}); err == nil {
		t.Error("broken params were written")
	}
	if _, err := op.Encode(&op.Operation{CreatedAt: json.RawMessage(`now`)}); err == nil {
		t.Error("a broken created_at was written")
	}
}

func TestMarshalDoesNotEscapeForHTML(t *testing.T) {
	got, err := op.Marshal(map[string]string{"a": "<b> & \u00fc"})
	if want := `{"a":"<b> & ü"}`; err != nil || string(got) != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
	if _, err := op.Marshal(func() {}); err == nil {
		t.Error("a function was written")
	}
}

func TestDeadlineOnTheWire(t *testing.T) {
	for _, text := range []string{`"90s"`, `"2030-01-02T03:04:05.678Z"`} {
		var d op.Deadline
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		back, _ := json.Marshal(d)
		var again op.Deadline
		if err := json.Unmarshal(back, &again); err != nil || again != d {
			t.Errorf("%s became %s", text, back)
		}
	}
	var d op.Deadline
	if err := json.Unmarshal([]byte(`12`), &d); op.AsError(err) == nil {
		t.Errorf("a number was read: %v", err)
	}
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	if got := (&op.Deadline{After: time.Minute}).Resolve(at); !got.Equal(at.Add(time.Minute)) {
		t.Errorf("a minute after %s is %s", at, got)
	}
	if got := (&op.Deadline{At: at}).Resolve(time.Time{}); !got.Equal(at) {
		t.Errorf("the deadline at %s is %s", at, got)
	}
}

// FuzzDecode: no body panics, refusals are complete, and what is accepted comes
// back the same after Encode. encoding/json agrees that it is JSON.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(full), "door")
	for _, c := range refusals {
		if len(c.body) < 1000 {
			f.Add([]byte(c.body), c.target)
		}
	}
	types := op.BuiltinTypes()
	f.Fuzz(func(t *testing.T, body []byte, target string) {
		_, _, _ = op.DecodeBulk(body, types)
		ops, err := op.Decode(body, target, types)
		if err != nil {
			if e := op.AsError(err); e == nil || e.Code == "" || e.Hint == "" {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatalf("accepted, but not JSON: %s", body)
		}
		for i := range ops {
			b, err := op.Encode(&ops[i])
			if err != nil {
				t.Fatal(err)
			}
			again, err := op.Decode(b, target, types)
			if err != nil {
				t.Fatalf("%s is refused: %v", b, err)
			}
			if d := cmp.Diff(ops[i], again[0]); d != "" {
				t.Fatalf("(-first +second)\n%s", d)
			}
			var std op.Operation
			if err := json.Unmarshal(b, &std); err != nil {
				t.Fatalf("encoding/json refuses %s: %v", b, err)
			}
			if d := cmp.Diff(ops[i], std); d != "" {
				t.Fatalf("encoding/json reads %s differently:\n%s", b, d)
			}
		}
	})
}

var bench = []byte(`{"op_id":"018f6a2e-7b1c-7000-8000-0123456789ab","op_type":"modify_field","target_entity_id":"entity-000123",` +
	`"params":{"field_name":"colour","new_value":"a red as in the evening"},"priority":8,"parent_op_id":"018f6a2e-7b1c-7000-8000-0123456789ac",` +
	`"max_retries":3,"on_conflict":"queue","submitter":"load","labels":{"run":"17"}}`)

func BenchmarkDecode(b *testing.B) {
	types := op.BuiltinTypes()
	b.SetBytes(int64(len(bench)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := op.Decode(bench, "", types); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	ops, err := op.Decode(bench, "", op.BuiltinTypes())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := op.Encode(&ops[0]); err != nil {
			b.Fatal(err)
		}
	}
}

func TestEncodeLeavesOutWhatIsNotGiven(t *testing.T) {
	body, err := op.Encode(&op.Operation{Type: op.TypeVersion, Target: "door-1"})
	if err != nil || string(body) != `{"op_type":"version_entity","target_entity_id":"door-1"}` {
		t.Fatalf("%s, %v", body, err)
	}
	ops, err := op.Decode(body, "", op.BuiltinTypes())
	if err != nil || ops[0].Priority != op.Normal {
		t.Errorf("it comes back as %+v, %v", ops, err)
	}
}
