// Package entity holds entities, their versions and the built-in changes to
// them. It is pure: no clock, no randomness, no NATS.
package entity

import (
	"encoding/json"
	"time"
)

// Limits of the lists that an entity's head carries; the log has all (ADR 0005).
const (
	MaxNotes      = 100
	MaxOldVersion = 100
)

// Entity is the state of one entity after some revision (contract §4).
type Entity struct {
	ID                string                     `json:"id"`
	Version           uint64                     `json:"version"`
	VersionID         string                     `json:"version_id"`
	PreviousVersionID string                     `json:"previous_version_id,omitempty"`
	OldVersionIDs     []string                   `json:"old_version_ids,omitempty"` // newest last, at most MaxOldVersion
	Revision          uint64                     `json:"revision"`
	LineageID         string                     `json:"lineage_id"`
	ParentID          string                     `json:"parent_id,omitempty"`
	RootID            string                     `json:"root_id"`            // the entity's own id for a root
	Children          []string                   `json:"children,omitempty"` // sorted
	Fields            map[string]json.RawMessage `json:"fields"`
	AttributeSource   map[string]*Source         `json:"attribute_source"` // per field: null or where it was borrowed from
	VersionCount      uint64                     `json:"version_count"`
	BorrowCount       uint64                     `json:"borrow_count"`
	History           []Note                     `json:"modification_history,omitempty"` // the last MaxNotes
	CreatedAt         time.Time                  `json:"created_at"`
	ForkedAt          *time.Time                 `json:"forked_at,omitempty"` // of the current version, when it is not the first
	LastModified      time.Time                  `json:"last_modified"`
	LastOpID          string                     `json:"last_op_id"`
	Deleted           bool                       `json:"deleted,omitempty"` // tombstone
}

// Source says where a borrowed value came from.
type Source struct {
	EntityID string `json:"entity_id"`
	Version  uint64 `json:"version"`
	Revision uint64 `json:"revision"`
	Field    string `json:"field"`
}

// Note is one line of an entity's history.
type Note struct {
	At       time.Time `json:"at"`
	OpID     string    `json:"op_id"`
	Revision uint64    `json:"revision"`
	Text     string    `json:"text"`
}

// Kind says what a change is, in the words of the entity events of contract §6.
type Kind string

// The kinds. Noted is an operation that succeeded without changing a field,
// such as promoting a root: it counts a revision and leaves a note.
const (
	Created   Kind = "created"
	Modified  Kind = "modified"
	Versioned Kind = "versioned"
	Borrowed  Kind = "borrowed"
	Promoted  Kind = "promoted"
	Detached  Kind = "detached"
	Attached  Kind = "attached"
	Deleted   Kind = "deleted"
	Noted     Kind = "noted"
)

// Change is what one successful attempt does to one entity, as data: the
// journal stores it, Apply folds it. It is complete, so that folding needs
// nothing but the entity before.
type Change struct {
	Kind Kind   `json:"kind"`
	Base uint64 `json:"base"` // revision it applies to; 0: the entity does not exist

	Set     map[string]json.RawMessage `json:"set,omitempty"`    // fields to set; provenance of each is cleared unless in Source
	Source  map[string]*Source         `json:"source,omitempty"` // provenance of the borrowed fields in Set
	Version bool                       `json:"version,omitempty"`
	// Parent and Root are set where the change moves the entity; "" in Parent
	// makes it an orphan.
	Parent      *string `json:"parent,omitempty"`
	Root        *string `json:"root,omitempty"`
	AddChild    string  `json:"add_child,omitempty"`
	RemoveChild string  `json:"remove_child,omitempty"`
	Note        string  `json:"note,omitempty"`

	// Follow are the operations for the other sides of a structural change;
	// the resolver submits them once the change is durable.
	Follow []FollowUp `json:"follow,omitempty"`
}
