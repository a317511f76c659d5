package observer

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func values(pairs ...string) map[string]json.RawMessage {
	m := map[string]json.RawMessage{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = json.RawMessage(pairs[i+1])
	}
	return m
}

// TestDiff: every difference between two states, with the operation that made it.
func TestDiff(t *testing.T) {
	parent, root, none, own := "mother", "mother", "", "x"
	source := &entity.Source{EntityID: "other", Version: 3, Revision: 9, Field: "mail"}
	var l entity.Timeline
	for i, c := range []*entity.Change{
		{Kind: entity.Created, ID: "x", Set: values("name", `"Bob"`, "old", "1", "mail", `"b@x"`)},
		{Kind: entity.Modified, Set: values("name", `"Rob"`)},
		{Kind: entity.Borrowed, Set: values("mail", `"b@x"`), Source: map[string]*entity.Source{"mail": source}},
		{Kind: entity.Versioned, Version: true, Set: values("name", `"Al"`, "new", "[1]")},
		{Kind: entity.Attached, Version: true, Parent: &parent, Root: &root},
		{Kind: entity.Deleted, Version: true, Parent: &none, Root: &own},
	} {
		if h := l.Head(); h != nil {
			c.Base, c.From = h.Revision, h.Version
		}
		if err := l.Add(c, string(rune('a'+i)), ms(i)); err != nil {
			t.Fatal(err)
		}
	}
	between := func(from, to uint64) *EntityDiff {
		a, ok := l.Read(entity.Addr{ID: "x", Version: from})
		b, ok2 := l.Read(entity.Addr{ID: "x", Version: to})
		if !ok || !ok2 {
			t.Fatalf("no version %d or %d", from, to)
		}
		return diff(a, b, l.Entries())
	}
	got := between(1, 2)
	want := []FieldDiff{
		{Field: "mail", Change: FieldProvenance, From: json.RawMessage(`"b@x"`), To: json.RawMessage(`"b@x"`), By: "c", Borrowed: source},
		{Field: "name", Change: FieldChanged, From: json.RawMessage(`"Bob"`), To: json.RawMessage(`"Al"`), By: "d"},
		{Field: "new", Change: FieldAdded, To: json.RawMessage(`[1]`), By: "d"},
	}
	if d := cmp.Diff(want, got.Fields); d != "" {
		t.Errorf("1 to 2 (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"b", "c", "d"}, got.Operations); d != "" {
		t.Errorf("operations (-want +got):\n%s", d)
	}
	if back := between(2, 1); back.Fields[2].Change != FieldRemoved || len(back.Operations) != 3 {
		t.Errorf("backwards: %+v", back)
	}
	if same := between(2, 2); len(same.Fields)+len(same.Operations) != 0 {
		t.Errorf("nothing differs from itself, and yet: %+v", same)
	}
	var names []string
	for _, f := range between(2, 3).Fields {
		names = append(names, f.Field+" "+f.By)
	}
	if d := cmp.Diff([]string{"@parent e", "@root e"}, names); d != "" {
		t.Errorf("2 to 3 (-want +got):\n%s", d)
	}
	names = nil
	for _, f := range between(3, 0).Fields {
		names = append(names, f.Field+" "+f.By)
	}
	if d := cmp.Diff([]string{"mail f", "name f", "new f", "old f", "@parent f", "@root f", "@deleted f"}, names); d != "" {
		t.Errorf("3 to the tombstone (-want +got):\n%s", d)
	}
}

// TestDiffReadsTheJournal: the versions come from the journal, and one that there
// is not is no answer.
func TestDiffReadsTheJournal(t *testing.T) {
	j := newJournal(t)
	j.change("x", entity.Change{Kind: entity.Created, Set: values("n", "1")})
	by := j.change("x", entity.Change{Kind: entity.Modified, Set: values("n", "2")})
	d, err := Diff(j.ctx, j.b, "x", 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Fields) != 1 || d.Fields[0].By != by || d.To.Revision != 2 || d.To.At.Before(j.start.Add(-time.Second)) {
		t.Errorf("%+v", d)
	}
	for _, c := range []struct {
		id       string
		from, to uint64
		code     string
	}{{"x", 1, 2, op.CodeNotFound}, {"nobody", 1, 2, op.CodeNotFound}, {"a.b", 1, 0, op.CodeBadID}} {
		if _, err := Diff(j.ctx, j.b, c.id, c.from, c.to); op.AsError(err) == nil || op.AsError(err).Code != c.code {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
