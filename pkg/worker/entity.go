package worker

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
)

// Entity is the target as it is: while an attempt is current, nothing else can
// change it. A handler must not change it either.
type Entity struct {
	ID           string
	Version      uint64
	VersionID    string
	Revision     uint64 // one up with each effect
	LineageID    string
	ParentID     string   // "": a root
	RootID       string   // its own id for a root
	Children     []string // sorted
	Fields       map[string]json.RawMessage
	CreatedAt    time.Time
	LastModified time.Time
	LastOpID     string
	Deleted      bool // what is left of it: no fields, no place in a tree
}

// Get reads a field into v, as [json.Unmarshal] does. It reports false, and leaves
// v alone, where there is no such field; a nil entity has none.
func (e *Entity) Get(field string, v any) (bool, error) {
	if e == nil {
		return false, nil
	}
	raw, ok := e.Fields[field]
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return true, fmt.Errorf("the field %.40q of %s: %w", field, e.ID, err)
	}
	return true, nil
}

func entityOf(e *entity.Entity) *Entity {
	if e == nil {
		return nil
	}
	return &Entity{
		ID: e.ID, Version: e.Version, VersionID: e.VersionID, Revision: e.Revision, LineageID: e.LineageID,
		ParentID: e.ParentID, RootID: e.RootID, Children: e.Children, Fields: e.Fields,
		CreatedAt: e.CreatedAt, LastModified: e.LastModified, LastOpID: e.LastOpID, Deleted: e.Deleted,
	}
}
