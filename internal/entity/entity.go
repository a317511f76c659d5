// Package entity holds entities, their versions and the built-in changes to them
// (contract §4). It is pure: no clock, no randomness, no NATS, no goroutines.
//
// [Compute] turns an operation and the entity before it into a [Change]; the
// journal stores the change; [Apply] folds it. Folding the changes of an entity
// in order gives every state it ever had, byte for byte ([Timeline]).
//
// Everything here is a plain value. Nothing is changed once it was returned, so
// values may be shared between goroutines as long as nobody writes to them.
//
// What goes wrong is told apart by who is to blame: an [op.Error] for params that
// do not fit the type, an [op.Failure] for an operation that cannot succeed on
// this entity (terminal) or not yet (retryable), and [ErrBase] or [ErrChange] for
// a change that may not be folded, which the journal must never contain.
package entity

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Limits of an entity. The lists are cut at their limit, since the log has all
// (ADR 0005); whatever would pass one of the others is refused, so that a head
// always fits into one message.
const (
	MaxNotes      = 100
	MaxOldVersion = 100
	MaxNote       = 256       // bytes of one note, without its instant
	MaxFields     = 512       // fields of one entity
	MaxFieldName  = 128       // bytes
	MaxSize       = 256 << 10 // bytes of all names and values together
	MaxChildren   = 1024      // direct children
	MaxDepth      = 64        // entities from a new parent up to its root
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
	Size              int                        `json:"size"`             // bytes of the names and values in Fields
	AttributeSource   map[string]*Source         `json:"attribute_source"` // per field: null or where it was borrowed from
	VersionCount      uint64                     `json:"version_count"`    // how often it was versioned after its creation
	BorrowCount       uint64                     `json:"borrow_count"`
	History           []Note                     `json:"modification_history,omitempty"` // the last MaxNotes
	CreatedAt         time.Time                  `json:"created_at"`
	ForkedAt          *time.Time                 `json:"forked_at,omitempty"` // of the current version, when it is not the first
	LastModified      time.Time                  `json:"last_modified"`
	LastOpID          string                     `json:"last_op_id"`
	Deleted           bool                       `json:"deleted,omitempty"` // tombstone: no fields, no place in a tree
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
	Base uint64 `json:"base"`           // revision it applies to; 0: the entity does not exist
	From uint64 `json:"from,omitempty"` // version it applies to; 0: there is none

	ID      string                     `json:"id,omitempty"`     // of the entity; needed where Kind is Created
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

// VersionID returns the id of the version that an operation makes of an entity.
// It is a function of both, so that whoever folds the log again finds the same.
func VersionID(entityID, opID string) string { return derive("version", entityID, opID) }

// lineageID returns the id that all versions of an entity share, also across a
// deletion and a new creation.
func lineageID(entityID string) string { return derive("lineage", entityID) }

// namespace is the root of all derived ids. It must never change.
var namespace = uuid.MustParse("5b1c1f8e-3d0b-5c62-9a44-7e1d0f6a2c90")

func derive(parts ...string) string {
	var name []byte
	for _, p := range parts {
		name = append(append(name, p...), 0) // no id contains a zero byte
	}
	return uuid.NewSHA1(namespace, name).String()
}

// Clone returns a copy that shares only the values of the fields, which nobody
// changes in place.
func (e *Entity) Clone() *Entity {
	n := *e
	n.OldVersionIDs = slices.Clone(e.OldVersionIDs)
	n.Children = slices.Clone(e.Children)
	n.Fields = maps.Clone(e.Fields)
	n.AttributeSource = maps.Clone(e.AttributeSource)
	n.History = slices.Clone(e.History)
	if e.ForkedAt != nil {
		at := *e.ForkedAt
		n.ForkedAt = &at
	}
	return &n
}

// Root reports whether e is the root of its tree.
func (e *Entity) Root() bool { return e.ParentID == "" }

// alive reports whether there is an entity that is not a tombstone.
func alive(e *Entity) bool { return e != nil && !e.Deleted }
