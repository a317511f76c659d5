package entity_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestCheckParams(t *testing.T) {
	for _, c := range []struct{ typ, params, code, field string }{
		{op.TypeVersion, ``, "", ""},
		{op.TypeVersion, `{}`, "", ""},
		{op.TypeVersion, `{"force":true}`, op.CodeBadParams, "params.force"},
		{op.TypeVersion, `[]`, op.CodeBadParams, "params"},
		{op.TypeDelete, `{"x":1}`, op.CodeBadParams, "params.x"},
		{op.TypePromoteToRoot, `{"x":1}`, op.CodeBadParams, "params.x"},
		{op.TypeDetach, `{"x":1}`, op.CodeBadParams, "params.x"},
		{op.TypeCreate, ``, "", ""},
		{op.TypeCreate, `{"fields":{"a":1,"b":null},"parent_id":"p"}`, "", ""},
		{op.TypeCreate, `{"fields":[]}`, op.CodeBadParams, "params.fields"},
		{op.TypeCreate, `{"fields":{"a.b":1}}`, op.CodeBadParams, "params.fields"},
		{op.TypeCreate, `{"fields":{"":1}}`, op.CodeBadParams, "params.fields"},
		{op.TypeCreate, `{"parent_id":"*"}`, op.CodeBadID, "params.parent_id"},
		{op.TypeCreate, `{"parent_id":null}`, op.CodeBadParams, "params.parent_id"},
		{op.TypeCreate, `{"parent_id":"t"}`, op.CodeBadParams, "params.parent_id"},
		{op.TypeCreate, `{"Fields":{}}`, op.CodeBadParams, "params.Fields"},
		{op.TypeModifyField, `{"field_name":"a","new_value":null}`, "", ""},
		{op.TypeModifyField, `{"field_name":"a"}`, op.CodeBadParams, "params.new_value"},
		{op.TypeModifyField, `{"new_value":1}`, op.CodeBadParams, "params.field_name"},
		{op.TypeModifyField, `{"field_name":7,"new_value":1}`, op.CodeBadParams, "params.field_name"},
		{op.TypeModifyField, `{"field_name":"` + strings.Repeat("x", entity.MaxFieldName+1) + `","new_value":1}`, op.CodeBadParams, "params.field_name"},
		{op.TypeBorrow, `{"source_entity_id":"s","source_field":"a","target_field":"b"}`, "", ""},
		{op.TypeBorrow, `{"source_field":"a","target_field":"b"}`, op.CodeBadParams, "params.source_entity_id"},
		{op.TypeBorrow, `{"source_entity_id":"s","source_field":"a"}`, op.CodeBadParams, "params.target_field"},
		{op.TypeBorrow, `{"source_entity_id":"s","target_field":"a"}`, op.CodeBadParams, "params.source_field"},
		{op.TypeComplexUpdate, `{"set":{"a":1},"increment":{"b":-1.5e3},"append":{"c":{}}}`, "", ""},
		{op.TypeComplexUpdate, `{}`, op.CodeBadParams, "params"},
		{op.TypeComplexUpdate, `{"set":{}}`, op.CodeBadParams, "params"},
		{op.TypeComplexUpdate, `{"increment":{"a":"1"}}`, op.CodeBadParams, "params.increment.a"},
		{op.TypeComplexUpdate, `{"set":{"a":1},"append":{"a":1}}`, op.CodeBadParams, "params.append.a"},
		{op.TypeComplexUpdate, `{"increment":{"a":1},"append":{"a":1}}`, op.CodeBadParams, "params.append.a"},
		{op.TypeAttach, `{"parent_id":"p"}`, "", ""},
		{op.TypeAttach, `{}`, op.CodeBadParams, "params.parent_id"},
		{op.TypeAttach, `{"parent_id":"t"}`, op.CodeBadParams, "params.parent_id"},
		{op.TypeFollowUp, `{"version":true}`, "", ""},
		{op.TypeFollowUp, `{"leave":">"}`, op.CodeBadID, "params"},
		{op.TypeFollowUp, `{"x":true}`, op.CodeBadParams, "params"},
		{"a_type_of_ones_own", `{"anything":true}`, "", ""},
	} {
		err := entity.CheckParams(&op.Operation{Type: c.typ, Target: "t", Params: raw(c.params)})
		switch {
		case err == nil && c.code == "":
		case err == nil || err.Code != c.code || err.Field != c.field || err.Hint == "":
			t.Errorf("%s %s: %+v, want %s for %q", c.typ, c.params, err, c.code, c.field)
		}
	}
	both := &op.Operation{Type: op.TypeBorrow, Target: "t", Source: "r", Params: raw(`{"source_entity_id":"s","source_field":"a","target_field":"b"}`)}
	if err := entity.CheckParams(both); err == nil || err.Field != "params.source_entity_id" {
		t.Errorf("two sources: %v", err)
	}
}

// What the edge refuses fails for good, should it get past the edge.
func TestComputeRefusesBadParams(t *testing.T) {
	for _, typ := range []string{op.TypeVersion, op.TypeModifyField, op.TypeBorrow, op.TypeComplexUpdate, op.TypePromoteToRoot, op.TypeDetach, op.TypeAttach, op.TypeDelete, op.TypeFollowUp} {
		_, f := entity.Compute(&op.Operation{Type: typ, Target: "door", Params: raw(`{"nonsense":1}`)}, door(t), nil)
		if f == nil || f.Code != entity.FailBadParams || f.Reason != op.Invalid || !f.Terminal {
			t.Errorf("%s: %+v", typ, f)
		}
	}
	_, f := entity.Compute(&op.Operation{Type: "dance", Target: "door"}, door(t), nil)
	if f == nil || f.Code != entity.FailUnknownType || f.Reason != op.UnknownType || !f.Terminal {
		t.Errorf("an unknown type: %+v", f)
	}
}

func TestAFailedLookIsRetried(t *testing.T) {
	look := func(string) (*entity.Entity, error) { return nil, errors.New("no leader") }
	for typ, params := range map[string]string{
		op.TypeBorrow: `{"source_entity_id":"s","source_field":"a","target_field":"b"}`,
		op.TypeAttach: `{"parent_id":"p"}`,
	} {
		_, f := entity.Compute(&op.Operation{Type: typ, Target: "door", Params: raw(params)}, door(t), look)
		if f == nil || f.Terminal || f.Code != entity.FailLookup {
			t.Errorf("%s: %+v", typ, f)
		}
	}
}

func TestStaleVersionNamesTheCurrentOne(t *testing.T) {
	expected := int64(7)
	_, f := entity.Compute(&op.Operation{Type: op.TypeVersion, Target: "door", ExpectedVersion: &expected}, door(t), nil)
	if f == nil || !f.Terminal || f.Reason != op.StaleVersion || f.CurrentVersion == nil || *f.CurrentVersion != 1 {
		t.Errorf("got %+v", f)
	}
}

func TestTheSourceMayStandInTheOperation(t *testing.T) {
	lamp := apply(t, nil, entity.Change{Kind: entity.Created, ID: "lamp", Set: map[string]json.RawMessage{"watts": raw("60")}}, "op1")
	look := func(string) (*entity.Entity, error) { return lamp, nil }
	c, f := entity.Compute(&op.Operation{Type: op.TypeBorrow, Target: "door", Source: "lamp", Params: raw(`{"source_field":"watts","target_field":"n"}`)}, door(t), look)
	if f != nil {
		t.Fatal(f)
	}
	has(t, "source", *c.Source["n"], entity.Source{EntityID: "lamp", Version: 1, Revision: 1, Field: "watts"})
}

func TestIncrement(t *testing.T) {
	for _, c := range []struct{ old, by, want string }{
		{"1", "2", "3"},
		{"-5", "5", "0"},
		{"123456789012345678901234567890", "1", "123456789012345678901234567891"},
		{"0.5", "1", "1.5"},
		{"1", "0.5", "1.5"},
		{"1e3", "1", "1001"},
		{"null", "4", "4"},
		{"1e308", "1e308", entity.FailOutOfRange},
		{"1e999", "1", entity.FailOutOfRange},
		{strings.Repeat("9", 64), "1", entity.FailOutOfRange},
		{strings.Repeat("9", 65), "1", entity.FailOutOfRange},
		{"true", "1", entity.FailWrongType},
		{`"1"`, "1", entity.FailWrongType},
	} {
		before := apply(t, nil, entity.Change{Kind: entity.Created, ID: "door", Set: map[string]json.RawMessage{"n": raw(c.old)}}, "op1")
		change, f := entity.Compute(&op.Operation{Type: op.TypeComplexUpdate, Target: "door", Params: raw(`{"increment":{"n":` + c.by + `}}`)}, before, nil)
		got := ""
		if f != nil {
			got = f.Code
		} else {
			got = string(change.Set["n"])
		}
		has(t, c.old+" + "+c.by, got, c.want)
	}
}

func TestAnEntityCannotGrowForEver(t *testing.T) {
	e := door(t)
	o := &op.Operation{Type: op.TypeComplexUpdate, Target: "door", Params: raw(`{"append":{"log":"` + strings.Repeat("x", 4000) + `"}}`)}
	for range 1000 {
		c, f := entity.Compute(o, e, nil)
		if f != nil {
			has(t, "failure", f.Code, entity.FailTooLarge)
			has(t, "terminal", f.Terminal, true)
			return
		}
		e = apply(t, e, *c, "op")
	}
	t.Fatalf("the entity has %d bytes", e.Size)
}

func TestAParentHasRoomForSoMany(t *testing.T) {
	w := newWorld(t)
	for i := range entity.MaxChildren + 1 {
		params := map[string]any{}
		if i > 0 {
			params["parent_id"] = "n0"
		}
		if _, f := w.do(w.operation(op.TypeCreate, fmt.Sprint("n", i), params)); f != nil {
			t.Fatal(f)
		}
	}
	w.settle(nil)
	has(t, "children", len(w.heads["n0"].Children), entity.MaxChildren)
	_, f := w.do(w.operation(op.TypeCreate, "late", map[string]any{"parent_id": "n0"}))
	if f == nil || f.Code != entity.FailTooMany {
		t.Errorf("one more: %v", f)
	}
}

func TestTreesHaveALimit(t *testing.T) {
	w := newWorld(t)
	parent := ""
	for i := 0; ; i++ {
		params := map[string]any{}
		if parent != "" {
			params["parent_id"] = parent
		}
		id := "n" + strconv.Itoa(i)
		if _, f := w.do(w.operation(op.TypeCreate, id, params)); f != nil {
			has(t, "failure", f.Code, entity.FailTooDeep)
			has(t, "levels", i, entity.MaxDepth+1)
			break
		}
		w.settle(nil)
		parent = id
	}
	w.checkTrees()
}

func TestAddresses(t *testing.T) {
	for _, s := range []string{"@door", "@door.a", "@door.a.b.0", "@door~3", "@door~18446744073709551615.a b"} {
		a, err := entity.ParseAddr(s)
		if err != nil || a.String() != s {
			t.Errorf("%s became %s (%v)", s, a, err)
		}
	}
	for s, code := range map[string]string{
		"": op.CodeBadValue, "door": op.CodeBadValue, "@": op.CodeBadID, "@*": op.CodeBadID, "@door~": op.CodeBadValue, "@door~0": op.CodeBadValue,
		"@door~-1": op.CodeBadValue, "@door~03": op.CodeBadValue, "@door~x": op.CodeBadValue, "@door.": op.CodeBadValue, "@door..a": op.CodeBadValue, "@door.a~3": "",
	} {
		_, err := entity.ParseAddr(s)
		if e := op.AsError(err); code == "" && err != nil || code != "" && (e == nil || e.Code != code || e.Field != "address") {
			t.Errorf("%q: %v, want %s", s, err, code)
		}
	}
}

func TestSelect(t *testing.T) {
	e := apply(t, nil, entity.Change{Kind: entity.Created, ID: "door", Set: map[string]json.RawMessage{"a": raw(`{"b":[{"c":"<"},null]}`)}}, "op1")
	for path, want := range map[string]string{
		"@door.a": `{"b":[{"c":"<"},null]}`, "@door.a.b.0.c": `"<"`, "@door.a.b.1": "null",
		"@door.a.b.2": "", "@door.a.b.-1": "", "@door.a.b.00": "", "@door.a.b.0.c.d": "", "@door.x": "", "@door.a.x.y": "",
	} {
		a, err := entity.ParseAddr(path)
		if err != nil {
			t.Fatal(err)
		}
		v, ok := a.Select(e)
		if string(v) != want || ok != (want != "") {
			t.Errorf("%s is %s, want %s", path, v, want)
		}
	}
	whole, ok := entity.Addr{ID: "door"}.Select(e)
	if !ok || !json.Valid(whole) || !strings.Contains(string(whole), `"version":1`) {
		t.Errorf("@door is %s", whole)
	}
	if _, ok := (entity.Addr{ID: "door"}).Select(nil); ok {
		t.Error("nothing was selected from nothing")
	}
}

func FuzzParseAddr(f *testing.F) {
	f.Add("@door~3.a.b")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := entity.ParseAddr(s); err == nil && a.String() != s {
			t.Fatalf("%q became %q", s, a)
		}
	})
}

// Compute is a function: an attempt that runs again says the same.
func TestComputeIsAFunction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, m := newWorld(t), model{}
		for range rapid.IntRange(1, 15).Draw(t, "operations") {
			o, _ := m.step(t, w)
			first, f1 := entity.Compute(o, w.heads[o.Target], w.look)
			second, f2 := entity.Compute(o, w.heads[o.Target], w.look)
			if string(encode(t, first)) != string(encode(t, second)) || string(encode(t, f1)) != string(encode(t, f2)) {
				t.Fatalf("%s differs", o.Type)
			}
			if f1 == nil {
				w.commit(o, first)
				w.settle(nil)
			}
		}
	})
}
