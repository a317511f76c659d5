package entity_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

var fuzzAt = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// fuzzed is an entity to try things on, with a parent and children.
func fuzzed(t *testing.T) *entity.Entity {
	t.Helper()
	parent := "house"
	e, err := entity.Apply(nil, &entity.Change{
		Kind: entity.Created, ID: "door", Parent: &parent, Root: &parent, AddChild: "knob",
		Set: map[string]json.RawMessage{"n": json.RawMessage("1"), "list": json.RawMessage("[1]"), "text": json.RawMessage(`"x"`)},
	}, "o1", fuzzAt)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// FuzzChange: a change out of the journal or from an executor is applied or
// refused. What is applied can be written and read again, is a function of its
// arguments, leaves the entity before as it was, and counts one revision.
func FuzzChange(f *testing.F) {
	for _, s := range []string{
		`{"kind":"modified","base":1,"from":1,"set":{"n":2}}`, `{"kind":"versioned","base":1,"from":1,"version":true,"set":{"a b":[1, {"x":"<&>"}]}}`,
		`{"kind":"borrowed","base":1,"from":1,"set":{"n":2},"source":{"n":{"entity_id":"e","version":3,"revision":4,"field":"m"}}}`,
		`{"kind":"deleted","base":1,"from":1,"version":true}`, `{"kind":"noted","base":1,"from":1,"note":"\u2028"}`,
		`{"kind":"promoted","base":1,"from":1,"version":true,"parent":"","root":"door","remove_child":"knob","add_child":"latch"}`,
		`{"kind":"modified","base":1,"from":1,"set":{"":1}}`, `{"kind":"modified","base":1,"from":1,"set":{"a.b":1}}`, `{"kind":"created","id":"door"}`,
		`{"kind":"modified","base":1,"from":1,"follow":[{"target":"x"}]}`, `{"kind":"attached","base":1,"from":1,"parent":"a.b"}`, `{}`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c entity.Change
		if json.Unmarshal(data, &c) != nil {
			return
		}
		for _, before := range []*entity.Entity{nil, fuzzed(t)} {
			was := encoded(before)
			after, err := entity.Apply(before, &c, "o2", fuzzAt)
			if !bytes.Equal(was, encoded(before)) {
				t.Fatalf("%s changes the entity before:\n%s\n%s", data, was, encoded(before))
			}
			if err != nil {
				continue
			}
			revision := uint64(1)
			if before != nil {
				revision = before.Revision + 1
			}
			if after.Revision != revision || after.LastOpID != "o2" || after.Size > entity.MaxSize || len(after.Fields) > entity.MaxFields {
				t.Fatalf("%s leads to revision %d of %s, %d bytes", data, after.Revision, after.LastOpID, after.Size)
			}
			written := encoded(after)
			slow, err := op.Marshal(after)
			if err != nil || !bytes.Equal(written, slow) {
				t.Fatalf("%s is written as\n%s, encoding/json writes (%v)\n%s", data, written, err, slow)
			}
			var read entity.Entity
			if err := json.Unmarshal(written, &read); err != nil || !bytes.Equal(encoded(&read), written) {
				t.Fatalf("%s is written as\n%s, and read (%v) as\n%s", data, written, err, encoded(&read))
			}
			change, err := op.Marshal(&c)
			if err != nil {
				t.Fatalf("%s was applied and cannot be written: %v", data, err)
			}
			var again entity.Change
			if err := json.Unmarshal(change, &again); err != nil {
				t.Fatal(err)
			}
			if second, err := entity.Apply(before, &again, "o2", fuzzAt); err != nil || !bytes.Equal(encoded(second), written) {
				t.Fatalf("%s leads to\n%s, and by way of the journal (%v) to\n%s", data, written, err, encoded(second))
			}
		}
	})
}

func encoded(e *entity.Entity) []byte {
	if e == nil {
		return nil
	}
	return e.AppendJSON(nil)
}

// FuzzCompute: whatever the params, an operation has a change or a failure with a
// code. What [entity.CheckParams] accepts is not refused for its params, and the
// change can be applied.
func FuzzCompute(f *testing.F) {
	types := []string{
		op.TypeCreate, op.TypeVersion, op.TypeModifyField, op.TypeBorrow, op.TypeComplexUpdate,
		op.TypePromoteToRoot, op.TypeDetach, op.TypeAttach, op.TypeDelete, op.TypeFollowUp,
	}
	for i, s := range []string{
		`{"fields":{"a":1}}`, ``, `{"field_name":"n","new_value":{"a":1}}`, `{"source_entity_id":"house","source_field":"h","target_field":"n"}`,
		`{"set":{"a":1},"increment":{"n":1.5e300},"append":{"list":[]}}`, ``, `{}`, `{"parent_id":"house"}`, `{}`, `{"add_child":"x"}`,
	} {
		f.Add(uint8(i), []byte(s), "", int64(-1))
		f.Add(uint8(i), []byte(s), "house", int64(1))
	}
	f.Fuzz(func(t *testing.T, kind uint8, params []byte, source string, version int64) {
		o := op.Operation{ID: "o2", Type: types[int(kind)%len(types)], Target: "door", Source: source, Params: params}
		if len(params) > 0 && !json.Valid(params) {
			return // the codec has seen them
		}
		if version >= 0 {
			o.ExpectedVersion = &version
		}
		house, err := entity.Apply(nil, &entity.Change{Kind: entity.Created, ID: "house", Set: map[string]json.RawMessage{"h": json.RawMessage("2")}}, "o0", fuzzAt)
		if err != nil {
			t.Fatal(err)
		}
		look := func(id string) (*entity.Entity, error) {
			if id == "house" {
				return house, nil
			}
			return nil, nil
		}
		for _, before := range []*entity.Entity{nil, fuzzed(t)} {
			c, failure := entity.Compute(&o, before, look)
			if (c == nil) == (failure == nil) {
				t.Fatalf("%s %s: a change and a failure, or neither", o.Type, params)
			}
			if second, f2 := entity.Compute(&o, before, look); cmp.Diff(c, second) != "" || cmp.Diff(failure, f2) != "" {
				t.Fatalf("%s %s: no function", o.Type, params)
			}
			if failure != nil {
				if failure.Code == "" || failure.Message == "" {
					t.Fatalf("%s %s fails with %+v", o.Type, params, failure)
				}
				continue
			}
			if err := entity.CheckParams(&o); err != nil {
				t.Fatalf("%s %s is computed, and refused as params: %v", o.Type, params, err)
			}
			if _, err := entity.Apply(before, c, o.ID, fuzzAt); err != nil {
				t.Fatalf("%s %s: the change cannot be applied: %v", o.Type, params, err)
			}
		}
	})
}
