package entity

import (
	"slices"
	"time"
)

// Entry is one change of a timeline and what it led to.
type Entry struct {
	Revision uint64    `json:"revision"`
	Version  uint64    `json:"version"`
	OpID     string    `json:"op_id"`
	At       time.Time `json:"at"`
	Change   *Change   `json:"change"` // not to be written to
}

// Timeline folds the changes of one entity in their order and answers what the
// entity was at any of its versions, revisions and instants. The zero value is
// empty and ready. Not safe for concurrent use while changes are added.
//
// A version is what it was when it was made: later changes without a version of
// their own belong to the way to the next one. So version 3 has the same bytes
// for ever (contract §4).
type Timeline struct {
	entries  []Entry
	versions []*Entity // versions[n-1] is version n; nobody writes to them
	head     *Entity
}

// Add folds the next change. Its errors are those of [Apply]; then the timeline
// stays as it was.
func (t *Timeline) Add(c *Change, opID string, at time.Time) error {
	e, err := Apply(t.head, c, opID, at)
	if err != nil {
		return err
	}
	if t.head == nil || e.Version != t.head.Version {
		t.versions = append(t.versions, e)
	}
	t.entries = append(t.entries, Entry{Revision: e.Revision, Version: e.Version, OpID: opID, At: e.LastModified, Change: c})
	t.head = e
	return nil
}

// Entries returns every change, the oldest first. The slice is the caller's.
func (t *Timeline) Entries() []Entry { return slices.Clone(t.entries) }

// Head returns the entity as it is now, nil while there is none. It is the
// caller's.
func (t *Timeline) Head() *Entity {
	if t.head == nil {
		return nil
	}
	return t.head.Clone()
}

// Version returns the entity as it was when version n was made, false where
// there is no such version. It is the caller's.
func (t *Timeline) Version(n uint64) (*Entity, bool) {
	if n == 0 || n > uint64(len(t.versions)) {
		return nil, false
	}
	return t.versions[n-1].Clone(), true
}

// Revision returns the entity at revision n, false where there is no such
// revision. It is the caller's.
func (t *Timeline) Revision(n uint64) (*Entity, bool) {
	if n == 0 || n > uint64(len(t.entries)) {
		return nil, false
	}
	e := t.versions[t.entries[n-1].Version-1]
	for _, entry := range t.entries[e.Revision:n] {
		next, err := Apply(e, entry.Change, entry.OpID, entry.At)
		if err != nil { // it was applied before; only a change that somebody wrote to gets here
			return nil, false
		}
		e = next
	}
	return e.Clone(), true
}

// At returns the entity at an instant, false where it did not exist yet. Changes
// of the same instant are all included. It is the caller's.
func (t *Timeline) At(at time.Time) (*Entity, bool) {
	after, _ := slices.BinarySearchFunc(t.entries, at, func(e Entry, at time.Time) int {
		if e.At.After(at) {
			return 1
		}
		return -1
	})
	return t.Revision(uint64(after))
}

// Read returns the entity that an address speaks of, without its path: a version,
// or the entity as it is now.
func (t *Timeline) Read(a Addr) (*Entity, bool) {
	if a.Version != 0 {
		return t.Version(a.Version)
	}
	e := t.Head()
	return e, e != nil
}

// Blame returns the change that gave a field its present value, false where the
// entity has no such field.
func (t *Timeline) Blame(field string) (Entry, bool) {
	if t.head == nil {
		return Entry{}, false
	}
	if _, ok := t.head.Fields[field]; !ok {
		return Entry{}, false
	}
	for _, e := range slices.Backward(t.entries) {
		if _, ok := e.Change.Set[field]; ok {
			return e, true
		}
	}
	return Entry{}, false
}
