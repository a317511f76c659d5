package client

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Diff is what lies between two versions of an entity.
type Diff struct {
	ID   string
	From *Entity
	To   *Entity
	// Fields are the fields that differ, in the order of their names.
	Fields []FieldDiff
	Moved  bool // another parent, or another root
}

// FieldDiff is one field that differs.
type FieldDiff struct {
	Field string
	From  json.RawMessage // nil: it was not there
	To    json.RawMessage // nil: it is not there any more
	// Source is where the value at the end was borrowed; nil: it is its own. Where
	// From and To are equal, it is all that differs.
	Source *Source
}

// Diff compares two versions of an entity, as each was when it was made; 0 is the
// entity as it is now. The error is [ErrNotFound] where one of them does not
// exist.
func (c *Client) Diff(ctx context.Context, id string, from, to uint64) (*Diff, error) {
	a, err := parse(id)
	if err != nil {
		return nil, err
	}
	d := &Diff{ID: a.ID}
	for _, side := range []struct {
		version uint64
		entity  **Entity
	}{{from, &d.From}, {to, &d.To}} {
		a.Version, a.Path = side.version, nil
		if _, *side.entity, err = c.read(ctx, a); err != nil {
			return nil, err
		}
	}
	d.Moved = d.From.ParentID != d.To.ParentID || d.From.RootID != d.To.RootID
	names := slices.AppendSeq(slices.Collect(maps.Keys(d.From.Fields)), maps.Keys(d.To.Fields))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		f := FieldDiff{Field: name, From: d.From.Fields[name], To: d.To.Fields[name], Source: d.To.Sources[name]}
		if !bytes.Equal(f.From, f.To) || !same(d.From.Sources[name], f.Source) {
			d.Fields = append(d.Fields, f)
		}
	}
	return d, nil
}

func same(a, b *Source) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// Origin is one station of a value's way: the operation that gave it to a field
// of an entity.
type Origin struct {
	EntityID  string
	Field     string
	Value     json.RawMessage
	OpID      string
	OpType    string
	Submitter string
	At        time.Time
	Version   uint64 // of the entity since then
	Revision  uint64
	// Borrowed is where the operation took the value from; the next station tells
	// how it came there. Nil: it came with the operation.
	Borrowed *Source
}

// maxStations bounds the way of a value. Each station reads a history.
const maxStations = 16

// Provenance says who gave a field its value, as @user-42.email or
// @user-42~3.email: the last operation that set it, and where that one borrowed it,
// who had set it there, and so on, back to the operation that brought it in. The
// list is cut after 16 stations. The error is [ErrNotFound] where there is no such
// field.
func (c *Client) Provenance(ctx context.Context, address string) ([]Origin, error) {
	a, err := parse(address)
	if err != nil {
		return nil, err
	}
	if len(a.Path) != 1 {
		return nil, mistake("", op.CodeBadValue, "address", "%s is not a field of an entity", a)
	}
	field := a.Path[0]
	a.Path = nil
	_, e, err := c.read(ctx, a)
	if err != nil {
		return nil, err
	}
	if _, ok := e.Fields[field]; !ok {
		return nil, mistake("", op.CodeNotFound, "address", "%s has no field %.80q", a, field)
	}
	var way []Origin
	at := &Source{EntityID: e.ID, Revision: e.Revision, Field: field}
	for at != nil && len(way) < maxStations {
		o, err := c.origin(ctx, at)
		if err != nil {
			return way, err
		}
		way = append(way, o)
		at = o.Borrowed
	}
	return way, nil
}

// origin finds the change that gave a field the value it had at a revision.
func (c *Client) origin(ctx context.Context, at *Source) (Origin, error) {
	changes, err := c.History(ctx, at.EntityID)
	if err != nil {
		return Origin{}, err
	}
	field, _, _ := strings.Cut(at.Field, ".")
	for _, h := range slices.Backward(changes) {
		value, set := h.Set[field]
		if h.Revision > at.Revision || !set {
			continue
		}
		return Origin{
			EntityID: at.EntityID, Field: field, Value: value, OpID: h.OpID, OpType: h.OpType, Submitter: h.Submitter, At: h.At,
			Version: h.Version, Revision: h.Revision, Borrowed: h.Sources[field],
		}, nil
	}
	return Origin{}, mistake("", op.CodeNotFound, "address", "the history of %s does not say who set %s", at.EntityID, at.Field)
}
