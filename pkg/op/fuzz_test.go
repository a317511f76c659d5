package op_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// complete fails unless err is an error that a client can act on.
func complete(t *testing.T, err error) {
	t.Helper()
	if e := op.AsError(err); e == nil || e.Type != op.ErrorType || e.Code == "" || e.Message == "" || e.Hint == "" {
		t.Fatalf("refused with %#v", err)
	}
}

// back fails unless o survives the wire.
func back(t *testing.T, o *op.Operation, decode func([]byte) ([]op.Operation, error)) {
	t.Helper()
	b, err := op.Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := decode(b)
	if err != nil {
		t.Fatalf("%s is refused: %v", b, err)
	}
	if d := cmp.Diff(*o, again[0]); len(again) != 1 || d != "" {
		t.Fatalf("%s (-first +second)\n%s", b, d)
	}
}

// FuzzDecodeBulk: each element of a bulk is judged as it would be alone, and a bulk
// of which nothing is refused is JSON.
func FuzzDecodeBulk(f *testing.F) {
	f.Add([]byte("[" + full + "," + full + "]"))
	for _, c := range refusals {
		if len(c.body) < 1000 {
			f.Add([]byte("[" + c.body + `,{"op_type":"version_entity","target_entity_id":"d"}]`))
			f.Add([]byte(c.body))
		}
	}
	types := op.BuiltinTypes()
	alone := func(b []byte) ([]op.Operation, error) { return op.Decode(b, "", types) }
	f.Fuzz(func(t *testing.T, body []byte) {
		ops, errs, err := op.DecodeBulk(body, types)
		if err != nil {
			complete(t, err)
			if ops != nil || errs != nil {
				t.Fatal("operations beside an error")
			}
			return
		}
		if len(ops) != len(errs) || len(ops) == 0 || len(ops) > op.MaxBulk {
			t.Fatalf("%d operations, %d errors", len(ops), len(errs))
		}
		good := true
		for i := range ops {
			if errs[i] != nil {
				good = false
				complete(t, errs[i])
				continue
			}
			back(t, &ops[i], alone)
		}
		if good && !json.Valid(body) {
			t.Fatalf("accepted, but not JSON: %s", body)
		}
		var parts []json.RawMessage
		if json.Unmarshal(body, &parts) != nil {
			return
		}
		if len(parts) != len(ops) {
			t.Fatalf("%d operations, encoding/json finds %d", len(ops), len(parts))
		}
		for i, part := range parts {
			o, err := op.Decode(part, "", types)
			if (err == nil) != (errs[i] == nil) && bytes.HasPrefix(bytes.TrimLeft(part, " \t\r\n"), []byte("{")) {
				t.Fatalf("%s is judged %v in a bulk and %v alone", part, errs[i], err)
			}
			if err == nil && errs[i] == nil {
				if d := cmp.Diff(ops[i], o[0]); d != "" {
					t.Fatalf("%s (-bulk +alone)\n%s", part, d)
				}
			}
		}
	})
}

// FuzzDecodeInternal: what the system submits to itself is read as strictly as what
// clients submit, and what they may submit it may, too.
func FuzzDecodeInternal(f *testing.F) {
	f.Add([]byte(full), "door")
	f.Add([]byte(`{"op_id":"f-018f6a2e-7b1c-7000-8000-0123456789ab","op_type":"structure_follow_up","params":{}}`), "door")
	f.Add([]byte(`[{"op_id":"s-1-0","op_type":"version_entity"}]`), "d")
	types := op.BuiltinTypes()
	f.Fuzz(func(t *testing.T, body []byte, target string) {
		own, err := op.DecodeInternal(body, target, types)
		theirs, refused := op.Decode(body, target, types)
		if err != nil {
			complete(t, err)
			if refused == nil {
				t.Fatalf("a client may submit what the system may not: %v", err)
			}
			return
		}
		if refused == nil {
			if d := cmp.Diff(own, theirs); d != "" {
				t.Fatalf("(-internal +client)\n%s", d)
			}
		}
		for i := range own {
			back(t, &own[i], func(b []byte) ([]op.Operation, error) { return op.DecodeInternal(b, target, types) })
		}
	})
}

// FuzzWire: whatever can be read as one of the bodies on the wire can be written,
// and reads the same again.
func FuzzWire(f *testing.F) {
	for _, s := range []string{
		full,
		`{"type":"ops.v1.work","partition":3,"attempt":1,"lease_ends":"2030-01-02T03:04:05.678Z","lease":30000000000,"operation":` + full + `,"entity":{"id":"a"}}`,
		`{"type":"ops.v1.result","op_id":"a","attempt":2,"duration":12,"change":{"kind":"noted"},"failure":{"code":"x","message":"y","terminal":true}}`,
		`{"type":"ops.v1.result_ack","op_id":"a","attempt":2,"accepted":true,"lease":3}`,
		`{"op_id":"a","status":"REJECTED","reason":"later_submission","priority":"HIGH","retry_at":"2030-01-02T03:04:05Z","error":{"message":"no"}}`,
		`{"name":"operation.rejected","event_id":"0-1-1","seq":7,"at":"2030-01-02T03:04:05Z","retry_count":1,"execution_duration_ms":1.5}`,
		`{"decision_id":"d0-1-1","target_entity_id":"a","contenders":[{"op_id":"a","priority":5,"effective_priority":8,"inheritance":{"path":["b"]}}]}`,
		`{"type":"ops.v1.error","code":"OPS-1001","message":"m","hint":"h","field":"f"}`,
		`{"type":"ops.v1.dead","record":{"op_id":"a"},"operation":` + full + `}`,
		`{"type":"ops.v1.forecast"}`, `{"priority":"CRITICAL","deadline":"90s"}`, `{}`, `null`, `[]`,
	} {
		f.Add([]byte(s))
	}
	bodies := []any{
		op.Operation{}, op.Work{}, op.Result{}, op.Beat{}, op.ResultAck{}, op.Accepted{}, op.Record{}, op.Dead{}, op.Decision{}, op.Event{}, op.Error{}, op.Forecast{},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, b := range bodies {
			first, second := reflect.New(reflect.TypeOf(b)), reflect.New(reflect.TypeOf(b))
			if json.Unmarshal(data, first.Interface()) != nil {
				continue
			}
			if !json.Valid(data) {
				t.Fatalf("%T out of what is not JSON: %s", b, data)
			}
			out, err := op.Marshal(first.Interface())
			if err != nil {
				t.Fatalf("%T can be read and not be written: %v", b, err)
			}
			err = json.Unmarshal(out, second.Interface())
			if e := op.AsError(err); e != nil && e.Code == op.CodeBadPriority && bytes.Contains(out, []byte(`priority":0`)) {
				continue // no operation is without one: Decode fills it in
			}
			if err != nil {
				t.Fatalf("%T is written as %s and cannot be read: %v", b, out, err)
			}
			again, err := op.Marshal(second.Interface())
			if err != nil || !bytes.Equal(out, again) {
				t.Fatalf("%T is written as\n%s, then as\n%s (%v)", b, out, again, err)
			}
		}
	})
}

// FuzzPriority: a priority is read from a text or from JSON alike, and comes back.
func FuzzPriority(f *testing.F) {
	for _, s := range []string{"high", "NORMAL", "7", "0", "11", "+5", "05", "5.0", "-1", "", "1e0", " 5", "Hıgh"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := op.ParsePriority(s)
		if err != nil {
			complete(t, err)
			return
		}
		if again, err := op.ParsePriority(p.String()); !p.Valid() || err != nil || again != p {
			t.Fatalf("%q is %v, which is read as %v, %v", s, p, again, err)
		}
		var read op.Priority
		quoted, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(quoted, &read); err != nil || read != p {
			t.Fatalf("%s is read as %v (%v), %q as %v", quoted, read, err, s, p)
		}
	})
}

// FuzzAppendString: every string is written as encoding/json writes it, and comes
// back if it is UTF-8.
func FuzzAppendString(f *testing.F) {
	f.Add("a\"b\\c\x00\u2028\xff<&>\U0001f600")
	f.Fuzz(func(t *testing.T, s string) {
		got := op.AppendString(nil, s)
		want, err := op.Marshal(s)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q is written as %s, encoding/json writes %s (%v)", s, got, want, err)
		}
	})
}

// FuzzDepth: the depth of a value is that of its nesting, and whatever is not a
// value does no harm.
func FuzzDepth(f *testing.F) {
	for _, s := range []string{`[[{"a":"]["}]]`, `"\\\"[["`, `{"a":[1,{"b":[]}]}`, `[`, `]]]`, `"`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		got := op.Depth(value)
		if !json.Valid(value) {
			return
		}
		dec, depth, most := json.NewDecoder(bytes.NewReader(value)), 0, 0
		for {
			tok, err := dec.Token()
			if err != nil {
				break
			}
			switch tok {
			case json.Delim('['), json.Delim('{'):
				depth++
				most = max(most, depth)
			case json.Delim(']'), json.Delim('}'):
				depth--
			}
		}
		if got != most {
			t.Fatalf("%s has depth %d, not %d", value, most, got)
		}
	})
}
