package entity_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

var noon = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

func apply(t *testing.T, before *entity.Entity, c entity.Change, opID string) *entity.Entity {
	t.Helper()
	if before != nil {
		c.Base, c.From = before.Revision, before.Version
	}
	e, err := entity.Apply(before, &c, opID, noon)
	if err != nil {
		t.Fatalf("%s: %v", c.Kind, err)
	}
	return e
}

func door(t *testing.T) *entity.Entity {
	return apply(t, nil, entity.Change{Kind: entity.Created, ID: "door", Set: map[string]json.RawMessage{"n": raw("1")}}, "op1")
}

func TestIDsAreFunctionsOfTheirCause(t *testing.T) {
	// Ids stand in journals for ever: these values must never change.
	has(t, "version id", entity.VersionID("door", "op1"), "ab10d650-b69a-5fbf-80ff-7d4296ee22a3")
	has(t, "lineage id", door(t).LineageID, "5d7dd8f9-2bb8-5901-a0cf-ca75813f9434")
	f := entity.FollowUp{Target: "house"}
	has(t, "follow-up id", entity.FollowUpID("op1", f, 0), "f-7bf02774-9965-53c7-b49c-2841431939d4")
	if !op.Reserved(entity.FollowUpID("op1", f, 0)) || !op.Token(entity.FollowUpID("op1", f, 0)) {
		t.Error("a client could take the id of a follow-up")
	}
	if entity.FollowUpID("op1", f, 0) == entity.FollowUpID("op1", f, 1) || entity.VersionID("a", "bc") == entity.VersionID("ab", "c") {
		t.Error("two causes have the same id")
	}
}

func TestVersionsFormAChain(t *testing.T) {
	e := door(t)
	ids := []string{e.VersionID}
	for i := range entity.MaxOldVersion + 20 {
		e = apply(t, e, entity.Change{Kind: entity.Versioned, Version: true}, fmt.Sprint("v", i))
		has(t, "previous version", e.PreviousVersionID, ids[len(ids)-1])
		ids = append(ids, e.VersionID)
	}
	has(t, "version", e.Version, len(ids))
	has(t, "old versions", strings.Join(e.OldVersionIDs, " "), strings.Join(ids[len(ids)-1-entity.MaxOldVersion:len(ids)-1], " "))
	has(t, "notes", len(e.History), entity.MaxNotes)
	has(t, "last note", e.History[entity.MaxNotes-1].Revision, e.Revision)
	has(t, "first note", e.History[0].Revision, e.Revision-entity.MaxNotes+1)
	if e.ForkedAt == nil || !e.ForkedAt.Equal(noon) {
		t.Errorf("forked at %v", e.ForkedAt)
	}
}

func TestApplyRefusesWhatCannotBeFolded(t *testing.T) {
	alive := door(t)
	dead := apply(t, alive, entity.Change{Kind: entity.Deleted, Version: true}, "op2")
	big := raw(`"` + strings.Repeat("x", entity.MaxSize) + `"`)
	for name, c := range map[string]struct {
		before *entity.Entity
		change entity.Change
		want   error
	}{
		"old base":           {alive, entity.Change{Kind: entity.Modified, From: 1}, entity.ErrBase},
		"old version":        {alive, entity.Change{Kind: entity.Modified, Base: 1}, entity.ErrBase},
		"base of nothing":    {nil, entity.Change{Kind: entity.Created, ID: "a", Base: 1}, entity.ErrBase},
		"no kind":            {alive, entity.Change{Base: 1, From: 1}, entity.ErrChange},
		"created twice":      {alive, entity.Change{Kind: entity.Created, ID: "door", Base: 1, From: 1}, entity.ErrChange},
		"created as nobody":  {nil, entity.Change{Kind: entity.Created}, entity.ErrChange},
		"created as another": {dead, entity.Change{Kind: entity.Created, ID: "gate", Base: 2, From: 2, Version: true}, entity.ErrChange},
		"modified nothing":   {nil, entity.Change{Kind: entity.Modified}, entity.ErrChange},
		"another entity":     {alive, entity.Change{Kind: entity.Modified, ID: "gate", Base: 1, From: 1}, entity.ErrChange},
		"modified tombstone": {dead, entity.Change{Kind: entity.Modified, Base: 2, From: 2}, entity.ErrChange},
		"deleted with set":   {alive, entity.Change{Kind: entity.Deleted, Base: 1, From: 1, Set: map[string]json.RawMessage{"a": raw("1")}}, entity.ErrChange},
		"child with a dot":   {alive, entity.Change{Kind: entity.Modified, Base: 1, From: 1, AddChild: "a.b"}, entity.ErrChange},
		"field with a dot":   {alive, entity.Change{Kind: entity.Modified, Base: 1, From: 1, Set: map[string]json.RawMessage{"a.b": raw("1")}}, entity.ErrChange},
		"broken value":       {alive, entity.Change{Kind: entity.Modified, Base: 1, From: 1, Set: map[string]json.RawMessage{"a": raw("{")}}, entity.ErrChange},
		"too large":          {alive, entity.Change{Kind: entity.Modified, Base: 1, From: 1, Set: map[string]json.RawMessage{"a": big}}, entity.ErrChange},
	} {
		if e, err := entity.Apply(c.before, &c.change, "op", noon); !errors.Is(err, c.want) || e != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestApplyKeepsValuesCompact(t *testing.T) {
	e := apply(t, door(t), entity.Change{Kind: entity.Modified, Set: map[string]json.RawMessage{"n": raw(" { \"a\" : [ 1 , 2 ] } ")}}, "op2")
	has(t, "value", string(e.Fields["n"]), `{"a":[1,2]}`)
	has(t, "size", e.Size, len(`n{"a":[1,2]}`))
}

func TestNotesAreBounded(t *testing.T) {
	c, f := entity.Compute(&op.Operation{Type: op.TypeModifyField, Target: "door", Params: raw(`{"field_name":"n","new_value":"` + strings.Repeat("ü", 100) + `"}`)}, door(t), nil)
	if f != nil {
		t.Fatal(f)
	}
	has(t, "note", c.Note, `Modified n to "`+strings.Repeat("ü", 29)+"…")
	e := apply(t, door(t), entity.Change{Kind: entity.Noted, Note: strings.Repeat("x", 1000)}, "op2")
	if n := len(e.History[1].Text); n > entity.MaxNote+40 {
		t.Errorf("a note has %d bytes", n)
	}
	e = apply(t, e, entity.Change{Kind: entity.Versioned, Version: true}, "op3")
	has(t, "note of a version", e.History[2].Text, "Versioned at 2025-03-01T12:00:00Z")
}

func TestAfterTellsTheVersion(t *testing.T) {
	for _, c := range []entity.Change{
		{Kind: entity.Modified}, {Kind: entity.Versioned, Version: true}, {Kind: entity.Noted}, {Kind: entity.Deleted, Version: true},
	} {
		before := door(t)
		c.Base, c.From = before.Revision, before.Version
		has(t, string(c.Kind), c.After(), apply(t, before, c, "op2").Version)
	}
	created := entity.Change{Kind: entity.Created, ID: "door"}
	has(t, "created", created.After(), 1)
}

func TestTimelineAnswersForInstants(t *testing.T) {
	var line entity.Timeline
	if line.Head() != nil {
		t.Error("an empty timeline has a head")
	}
	if _, ok := line.Blame("n"); ok {
		t.Error("an empty timeline has somebody to blame")
	}
	add := func(c entity.Change, second int) {
		t.Helper()
		if err := line.Add(&c, fmt.Sprint("op", second), noon.Add(time.Duration(second)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	set := func(v string) map[string]json.RawMessage { return map[string]json.RawMessage{"n": raw(v)} }
	add(entity.Change{Kind: entity.Created, ID: "door", Set: set("1")}, 0)
	add(entity.Change{Kind: entity.Modified, Base: 1, From: 1, Set: set("2")}, 10)
	add(entity.Change{Kind: entity.Modified, Base: 2, From: 1, Set: set("3")}, 10)
	add(entity.Change{Kind: entity.Versioned, Base: 3, From: 1, Version: true}, 20)
	for second, want := range map[int]string{-1: "", 0: "1", 9: "1", 10: "3", 25: "3"} {
		e, ok := line.At(noon.Add(time.Duration(second) * time.Second))
		got := ""
		if ok {
			got = string(e.Fields["n"])
		}
		has(t, fmt.Sprintf("n after %d s", second), got, want)
	}
	e, _ := line.Revision(2)
	has(t, "n at revision 2", string(e.Fields["n"]), "2")
	if _, ok := line.Revision(5); ok {
		t.Error("there is a revision 5")
	}
	has(t, "entries", len(line.Entries()), 4)
	if err := line.Add(&entity.Change{Kind: entity.Modified, Base: 2, From: 1}, "late", noon); !errors.Is(err, entity.ErrBase) {
		t.Errorf("a late change: %v", err)
	}
	// What a timeline hands out is the caller's.
	e.Fields["n"] = raw("0")
	e, _ = line.Version(1)
	e.Fields["n"], e.History[0].Text = raw("0"), ""
	again, _ := line.Version(1)
	has(t, "n at version 1", string(again.Fields["n"]), "1")
	if again.History[0].Text == "" {
		t.Error("version 1 changed")
	}
}

func fullEntity(b *testing.B) *entity.Entity {
	set := map[string]json.RawMessage{}
	for i := range 8 {
		set[fmt.Sprint("field", i)] = raw(`"some value"`)
	}
	e, err := entity.Apply(nil, &entity.Change{Kind: entity.Created, ID: "door", Set: set}, "op", noon)
	for i := 0; err == nil && i < 150; i++ {
		e, err = entity.Apply(e, &entity.Change{Kind: entity.Versioned, Base: e.Revision, From: e.Version, Version: true}, fmt.Sprint("op", i), noon)
	}
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func BenchmarkApply(b *testing.B) {
	e := fullEntity(b)
	c := &entity.Change{Kind: entity.Modified, Base: e.Revision, From: e.Version, Set: map[string]json.RawMessage{"field3": raw(`"red"`)}, Note: "Modified field3"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := entity.Apply(e, c, "op", noon); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompute(b *testing.B) {
	e := fullEntity(b)
	o := &op.Operation{Type: op.TypeModifyField, Target: "door", Params: raw(`{"field_name":"field3","new_value":"red"}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, f := entity.Compute(o, e, nil); f != nil {
			b.Fatal(f)
		}
	}
}

func BenchmarkHead(b *testing.B) {
	e := fullEntity(b)
	b.ReportAllocs()
	for b.Loop() {
		if len(e.AppendJSON(make([]byte, 0, 16<<10))) == 0 {
			b.Fatal("nothing")
		}
	}
}
