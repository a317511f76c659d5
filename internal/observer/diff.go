package observer

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// EntityDiffType is the value of "type" in an [EntityDiff].
const EntityDiffType = "ops.v1.entity_diff"

// EntityDiff is what lies between two states of an entity.
type EntityDiff struct {
	Type string `json:"type"` // EntityDiffType
	ID   string `json:"id"`
	From State  `json:"from"`
	To   State  `json:"to"`
	// Fields are the differences in the order of their names, those of the
	// entity's place in its tree last.
	Fields []FieldDiff `json:"fields"`
	// Operations changed the entity between the two states, the oldest first,
	// also where nothing of it is left to see.
	Operations []string `json:"operations"`
}

// State names one state of an entity.
type State struct {
	Version  uint64    `json:"version"`
	Revision uint64    `json:"revision"`
	At       time.Time `json:"at"`
}

// FieldChange says what happened to a field.
type FieldChange string

// The changes of a field. Provenance: the value is the same, but it was borrowed
// from elsewhere, or is its own now.
const (
	FieldAdded      FieldChange = "added"
	FieldRemoved    FieldChange = "removed"
	FieldChanged    FieldChange = "changed"
	FieldProvenance FieldChange = "provenance"
)

// FieldDiff is one difference.
type FieldDiff struct {
	Field  string          `json:"field"` // "@parent" and its like are the place in the tree
	Change FieldChange     `json:"change"`
	From   json.RawMessage `json:"from,omitempty"`
	To     json.RawMessage `json:"to,omitempty"`
	// By is the last operation between the two states that set the field.
	By string `json:"by,omitempty"`
	// Borrowed says where the value at the end was borrowed from.
	Borrowed *entity.Source `json:"borrowed,omitempty"`
}

// Diff compares two versions of an entity, as they were when they were made; 0
// is the entity as it is now. It reads the journal of the entity's partition.
func Diff(ctx context.Context, b *bus.Bus, id string, from, to uint64) (*EntityDiff, error) {
	t, err := Timeline(ctx, b, id)
	if err != nil {
		return nil, err
	}
	states := [2]*entity.Entity{}
	for i, v := range [2]uint64{from, to} {
		e, ok := t.Read(entity.Addr{ID: id, Version: v})
		if !ok {
			return nil, op.Errorf(op.CodeNotFound, "address", "%s has no version %d", id, v)
		}
		states[i] = e
	}
	return diff(states[0], states[1], t.Entries()), nil
}

// diff compares two states of one entity with the given changes.
func diff(a, b *entity.Entity, entries []entity.Entry) *EntityDiff {
	d := &EntityDiff{
		Type: EntityDiffType, ID: a.ID, Fields: []FieldDiff{}, Operations: []string{},
		From: State{a.Version, a.Revision, a.LastModified}, To: State{b.Version, b.Revision, b.LastModified},
	}
	between := entries[min(a.Revision, b.Revision):max(a.Revision, b.Revision)]
	for i := range between {
		d.Operations = append(d.Operations, between[i].OpID)
	}
	names := slices.AppendSeq(slices.Collect(maps.Keys(a.Fields)), maps.Keys(b.Fields))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		f := FieldDiff{Field: name, From: a.Fields[name], To: b.Fields[name], Borrowed: b.AttributeSource[name]}
		switch {
		case f.From == nil:
			f.Change = FieldAdded
		case f.To == nil:
			f.Change = FieldRemoved
		case !bytes.Equal(f.From, f.To):
			f.Change = FieldChanged
		case !sameSource(a.AttributeSource[name], b.AttributeSource[name]):
			f.Change = FieldProvenance
		default:
			continue
		}
		f.By = lastBy(between, func(c *entity.Change) bool { _, set := c.Set[name]; return set || c.Kind == entity.Deleted })
		d.Fields = append(d.Fields, f)
	}
	d.place(a, b, between)
	return d
}

// place compares where two states stand in their tree.
func (d *EntityDiff) place(a, b *entity.Entity, between []entity.Entry) {
	moved := func(c *entity.Change) bool { return c.Parent != nil || c.Root != nil || c.Kind == entity.Deleted }
	kin := func(c *entity.Change) bool { return c.AddChild != "" || c.RemoveChild != "" }
	ended := func(c *entity.Change) bool { return c.Kind == entity.Deleted || c.Kind == entity.Created }
	for _, p := range []struct {
		name     string
		from, to any
		by       func(*entity.Change) bool
	}{
		{"@parent", a.ParentID, b.ParentID, moved},
		{"@root", a.RootID, b.RootID, moved},
		{"@children", append([]string{}, a.Children...), append([]string{}, b.Children...), kin},
		{"@deleted", a.Deleted, b.Deleted, ended},
	} {
		from, _ := op.Marshal(p.from) // text, a list of it, or a boolean
		to, _ := op.Marshal(p.to)
		if !bytes.Equal(from, to) {
			d.Fields = append(d.Fields, FieldDiff{Field: p.name, Change: FieldChanged, From: from, To: to, By: lastBy(between, p.by)})
		}
	}
}

func sameSource(a, b *entity.Source) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// lastBy returns the last operation with such a change.
func lastBy(entries []entity.Entry, did func(*entity.Change) bool) string {
	for _, e := range slices.Backward(entries) {
		if did(e.Change) {
			return e.OpID
		}
	}
	return ""
}
