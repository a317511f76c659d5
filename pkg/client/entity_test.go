package client_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// family makes user-1 with a child, some versions, and an e-mail that went from
// user-3 by way of user-2 to user-1.
func family(t *testing.T, c *client.Client) {
	t.Helper()
	do(t, c, op.Operation{ID: "c3", Type: op.TypeCreate, Target: "user-3", Submitter: "signup", Params: client.Params(map[string]any{"fields": map[string]any{"email": "old@example"}})})
	do(t, c, set("e3", "user-3", "email", "bob@example"))
	for _, hop := range [][3]string{{"b2", "user-2", "user-3"}, {"b1", "user-1", "user-2"}} {
		do(t, c, create("c"+hop[0], hop[1]))
		do(t, c, op.Operation{
			ID: hop[0], Type: op.TypeBorrow, Target: hop[1], Source: hop[2],
			Params: client.Params(map[string]string{"source_field": "email", "target_field": "email"}),
		})
	}
	do(t, c, set("later", "user-3", "email", "new@example"))
	do(t, c, set("n", "user-1", "sizes", []any{1, map[string]int{"mm": 7}}))
	do(t, c, op.Operation{ID: "v", Type: op.TypeVersion, Target: "user-1"})
	do(t, c, set("name", "user-1", "name", "Bobby"))
	other := c.Watch(patient(t), client.WatchOptions{Target: "user-1", Pattern: "operation.completed", Where: func(e *op.Event) bool { return e.CausedBy == "child" }})
	do(t, c, op.Operation{ID: "child", Type: op.TypeCreate, Target: "user-1-child", Params: client.Params(map[string]any{"parent_id": "user-1"})})
	for range other { // the parent's side of it follows
		break
	}
}

func TestReading(t *testing.T) {
	_, c := system(t)
	family(t, c)
	ctx := patient(t)
	for address, want := range map[string]string{
		"@user-1.name": `"Bobby"`, "user-1.sizes.1.mm": `7`, "@user-1~2.email": `"bob@example"`, "@user-1.email": `"bob@example"`,
	} {
		if v, err := c.Get(ctx, address); err != nil || string(v.Raw) != want {
			t.Errorf("%s: %s, %v", address, v.Raw, err)
		}
	}
	v := must[client.Value](t)(c.Get(ctx, "user-1~2.sizes"))
	var sizes []any
	if err := v.Decode(&sizes); err != nil || len(sizes) != 2 || v.Version != 2 || v.Revision != 4 || v.Address != "@user-1~2.sizes" || v.Deleted {
		t.Errorf("%+v, %v", v, err)
	}
	e := must[*client.Entity](t)(c.Entity(ctx, "user-1"))
	if e.Version != 2 || e.RootID != "user-1" || string(e.Fields["name"]) != `"Bobby"` || e.Sources["email"] == nil || e.Sources["email"].EntityID != "user-2" || len(e.Raw) == 0 {
		t.Errorf("%+v", e)
	}
	for address, kind := range map[string]error{
		"@nobody": client.ErrNotFound, "@user-1.nothing": client.ErrNotFound, "@user-1~9": client.ErrNotFound, "@user-1~1.name": client.ErrNotFound,
		"@": client.ErrInvalid, "@user-1~0": client.ErrInvalid, "@a b": client.ErrInvalid, "@user-1..x": client.ErrInvalid,
	} {
		if v, err := c.Get(ctx, address); !errors.Is(err, kind) {
			t.Errorf("%s: %s, %v", address, v.Raw, err)
		}
	}
}

func TestDiff(t *testing.T) {
	_, c := system(t)
	family(t, c)
	d := must[*client.Diff](t)(c.Diff(patient(t), "user-1", 1, 2))
	var fields []string
	for _, f := range d.Fields {
		fields = append(fields, f.Field)
		if f.From != nil || f.To == nil || (f.Field == "email") != (f.Source != nil) {
			t.Errorf("%+v", f)
		}
	}
	if !slices.Equal(fields, []string{"email", "sizes"}) || d.From.Version != 1 || d.To.Version != 2 || d.Moved {
		t.Errorf("%+v", d)
	}
	if d := must[*client.Diff](t)(c.Diff(patient(t), "user-1", 0, 2)); len(d.Fields) != 1 || d.Fields[0].Field != "name" || d.Fields[0].To != nil {
		t.Errorf("%+v", d.Fields)
	}
	if _, err := c.Diff(patient(t), "user-1", 1, 7); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestHistoryAndLineage(t *testing.T) {
	_, c := system(t)
	family(t, c)
	ctx := patient(t)
	var ids []string
	for _, h := range must[[]client.Change](t)(c.History(ctx, "@user-1")) {
		ids = append(ids, h.OpID)
		if h.OpID == "b1" && (h.Sources["email"] == nil || h.Sources["email"].EntityID != "user-2" || string(h.Set["email"]) != `"bob@example"` || h.Kind != "borrowed") {
			t.Errorf("%+v", h)
		}
	}
	if len(ids) < 5 || !slices.Equal(ids[:5], []string{"cb1", "b1", "n", "v", "name"}) {
		t.Errorf("%v", ids)
	}
	l := must[*client.Lineage](t)(c.Lineage(ctx, "user-1"))
	if len(l.Versions) != 2 || l.RootID != "user-1" || l.Borrowed["email"] == nil || len(l.Entity.Children) != 1 || l.Entity.Children[0].ID != "user-1-child" {
		t.Errorf("%+v", l)
	}
	if _, err := c.History(ctx, "user-1.name"); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := c.Lineage(ctx, "nobody"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// The way of a value leads from the field to the operation that brought it in, as
// it was then and not as it is now.
func TestProvenance(t *testing.T) {
	_, c := system(t)
	family(t, c)
	way := must[[]client.Origin](t)(c.Provenance(patient(t), "@user-1.email"))
	var ids []string
	for _, o := range way {
		ids = append(ids, o.EntityID+" "+o.OpID)
		if string(o.Value) != `"bob@example"` || o.Field != "email" || o.At.IsZero() {
			t.Errorf("%+v", o)
		}
	}
	if !slices.Equal(ids, []string{"user-1 b1", "user-2 b2", "user-3 e3"}) || way[2].Borrowed != nil || way[0].Borrowed.EntityID != "user-2" {
		t.Errorf("%v", ids)
	}
	// Before it was changed there, it came with its entity.
	if way := must[[]client.Origin](t)(c.Provenance(patient(t), "@user-3~1.email")); len(way) != 1 || way[0].OpID != "c3" || way[0].Submitter != "signup" {
		t.Errorf("%+v", way)
	}
	for address, kind := range map[string]error{"@user-1": client.ErrInvalid, "@user-1.a.b": client.ErrInvalid, "@user-1.nothing": client.ErrNotFound} {
		if _, err := c.Provenance(patient(t), address); !errors.Is(err, kind) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
