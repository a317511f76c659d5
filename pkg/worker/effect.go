package worker

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Effect is what a handler wants of its entity. The zero value changes nothing
// and succeeds. Effects are built one from the other and never changed:
//
//	worker.Set("colour", "green").Set("coats", 2).Version().Note("Painted")
//
// All of it happens, or nothing. The place in a tree is for the built-in types to
// change. As JSON it is what a handler in another language answers.
type Effect struct {
	e   executor.Effect
	err error // the first value that is no JSON
}

// Source says where a borrowed value came from.
type Source struct {
	EntityID string
	Version  uint64
	Revision uint64
	Field    string
}

// Set sets a field to a value, which must be encodable as JSON. Where the field
// was borrowed from is forgotten.
func Set(field string, value any) Effect { return Effect{}.Set(field, value) }

// Borrow sets a field to a value of another entity and keeps where it came from.
func Borrow(field string, value any, from Source) Effect { return Effect{}.Borrow(field, value, from) }

// Version makes a new version of the entity.
func Version() Effect { return Effect{}.Version() }

// Note puts a line into the entity's history, formatted as by [fmt.Sprintf]; the
// instant is added. Without one, the kind of the change is the note.
func Note(format string, args ...any) Effect { return Effect{}.Note(format, args...) }

// Create makes the entity, which must not exist, or be deleted.
func Create() Effect { return Effect{}.Create() }

// Delete leaves a tombstone of the entity, without fields.
func Delete() Effect { return Effect{}.Delete() }

// Set sets another field, see the function of that name.
func (e Effect) Set(field string, value any) Effect {
	raw, err := op.Marshal(value)
	if err != nil && e.err == nil {
		e.err = fmt.Errorf("the value of %.40q: %w", field, err)
	}
	e.e.Set = with(e.e.Set, field, json.RawMessage(raw))
	if _, ok := e.e.Source[field]; ok {
		e.e.Source = maps.Clone(e.e.Source)
		delete(e.e.Source, field)
	}
	return e
}

// Borrow sets another field, see the function of that name.
func (e Effect) Borrow(field string, value any, from Source) Effect {
	e = e.Set(field, value)
	e.e.Source = with(e.e.Source, field, &entity.Source{
		EntityID: from.EntityID, Version: from.Version, Revision: from.Revision, Field: from.Field,
	})
	return e
}

// Version makes a new version, too.
func (e Effect) Version() Effect {
	e.e.Version = true
	return e
}

// Note replaces the note, see the function of that name.
func (e Effect) Note(format string, args ...any) Effect {
	e.e.Note = fmt.Sprintf(format, args...)
	return e
}

// Create makes the entity, too.
func (e Effect) Create() Effect {
	e.e.Create = true
	return e
}

// Delete deletes the entity instead.
func (e Effect) Delete() Effect {
	e.e.Delete = true
	return e
}

// MarshalJSON writes the effect as a handler in another language would. The error
// is for a value that is no JSON.
func (e Effect) MarshalJSON() ([]byte, error) {
	if e.err != nil {
		return nil, e.err
	}
	return op.Marshal(&e.e)
}

// change is the effect on an entity, or why there can be none.
func (e Effect) change(before *entity.Entity) (*entity.Change, error) {
	err := e.err
	var c *entity.Change
	if err == nil {
		c, err = e.e.Change(before)
	}
	if err != nil {
		return nil, &op.Failure{Code: executor.CodeBadChange, Message: err.Error(), Terminal: true}
	}
	return c, nil
}

// with returns a copy of m with one more.
func with[V any](m map[string]V, key string, v V) map[string]V {
	c := make(map[string]V, len(m)+1)
	maps.Copy(c, m)
	c[key] = v
	return c
}
