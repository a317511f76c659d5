package entity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Errors of [Apply]. Neither may ever happen to a change out of the journal.
var (
	ErrBase   = errors.New("entity: the change is based on another revision")
	ErrChange = errors.New("entity: the change cannot be applied")
)

// Apply returns the entity after c, which operation opID made at an instant. It
// is a pure fold: before stays as it was and shares no slice or map with the
// result. before is nil where the entity never existed. The errors are [ErrBase]
// and [ErrChange], wrapped with what is wrong.
func Apply(before *Entity, c *Change, opID string, at time.Time) (*Entity, error) {
	if err := c.check(before); err != nil {
		return nil, err
	}
	at = at.Round(0).UTC()
	e := start(before, c, at)
	if c.Version || c.Kind == Created {
		e.fork(before, opID, at)
	}
	if err := e.set(c); err != nil {
		return nil, err
	}
	if c.Kind == Borrowed {
		e.BorrowCount++
	}
	e.move(c)
	e.Deleted = c.Kind == Deleted || e.Deleted && c.Kind != Created
	e.Revision++
	e.LastModified, e.LastOpID = at, opID
	e.History = grown(e.History, Note{At: at, OpID: opID, Revision: e.Revision, Text: c.text(at)}, MaxNotes)
	return e, nil
}

// check refuses what cannot be folded, whatever it would change.
func (c *Change) check(before *Entity) error {
	revision, version := uint64(0), uint64(0)
	if before != nil {
		revision, version = before.Revision, before.Version
	}
	switch {
	case c.Base != revision:
		return fmt.Errorf("%w: base %d, the entity is at %d", ErrBase, c.Base, revision)
	case c.From != version:
		return fmt.Errorf("%w: from version %d, the entity is at %d", ErrBase, c.From, version)
	case c.Kind.verb() == "":
		return fmt.Errorf("%w: unknown kind %q", ErrChange, c.Kind)
	case c.Kind == Created && alive(before):
		return fmt.Errorf("%w: %s exists already", ErrChange, before.ID)
	case c.Kind == Created && !op.Token(c.ID):
		return fmt.Errorf("%w: %q is not an id", ErrChange, c.ID)
	case c.Kind != Created && before == nil:
		return fmt.Errorf("%w: there is no entity to be %s", ErrChange, c.Kind)
	case before != nil && c.ID != "" && c.ID != before.ID:
		return fmt.Errorf("%w: it is for %s, not for %s", ErrChange, c.ID, before.ID)
	case c.Kind != Created && c.Kind != Noted && before.Deleted:
		return fmt.Errorf("%w: %s is deleted", ErrChange, before.ID)
	case c.Kind == Deleted && len(c.Set) > 0:
		return fmt.Errorf("%w: a deletion sets no fields", ErrChange)
	}
	for _, id := range []string{c.AddChild, c.RemoveChild, deref(c.Parent), deref(c.Root)} {
		if id != "" && !op.Token(id) {
			return fmt.Errorf("%w: %q is not an id", ErrChange, id)
		}
	}
	return nil
}

// start returns what c is folded into: a copy, or a new entity. One that was
// deleted comes back empty and keeps its lineage, its versions and its history.
func start(before *Entity, c *Change, at time.Time) *Entity {
	if before == nil {
		return &Entity{
			ID: c.ID, RootID: c.ID, LineageID: lineageID(c.ID), CreatedAt: at,
			Fields: map[string]json.RawMessage{}, AttributeSource: map[string]*Source{},
		}
	}
	e := *before // History and OldVersionIDs are copied where they grow, or below
	e.Children = slices.Clone(before.Children)
	if c.Kind == Created {
		e.ParentID, e.RootID, e.Children = "", e.ID, nil
	}
	if !c.Version && c.Kind != Created {
		e.OldVersionIDs = slices.Clone(before.OldVersionIDs)
		if before.ForkedAt != nil {
			forked := *before.ForkedAt
			e.ForkedAt = &forked
		}
	}
	if c.Kind == Created || c.Kind == Deleted || before.Fields == nil || before.AttributeSource == nil {
		e.Fields, e.AttributeSource, e.Size = map[string]json.RawMessage{}, map[string]*Source{}, 0
	} else {
		e.Fields, e.AttributeSource = maps.Clone(before.Fields), maps.Clone(before.AttributeSource)
	}
	return &e
}

// fork makes a new version.
func (e *Entity) fork(before *Entity, opID string, at time.Time) {
	e.Version++
	e.VersionID = VersionID(e.ID, opID)
	if before == nil {
		return
	}
	e.VersionCount++
	e.PreviousVersionID = before.VersionID
	e.OldVersionIDs = grown(before.OldVersionIDs, before.VersionID, MaxOldVersion)
	e.ForkedAt = &at
}

// set sets the fields of c; the provenance of each is what c says, or none.
func (e *Entity) set(c *Change) error {
	for _, name := range slices.Sorted(maps.Keys(c.Set)) {
		if !FieldName(name) {
			return fmt.Errorf("%w: %.40q cannot be the name of a field", ErrChange, name)
		}
		// The same bytes as those that the journal will hold: compact.
		var value bytes.Buffer
		if err := json.Compact(&value, c.Set[name]); err != nil {
			return fmt.Errorf("%w: the value of %s is not JSON: %w", ErrChange, name, err)
		}
		if old, ok := e.Fields[name]; ok {
			e.Size -= len(name) + len(old)
		}
		e.Size += len(name) + value.Len()
		e.Fields[name] = value.Bytes()
		e.AttributeSource[name] = nil
		if s := c.Source[name]; s != nil {
			own := *s
			e.AttributeSource[name] = &own
		}
	}
	if e.Size > MaxSize || len(e.Fields) > MaxFields {
		return fmt.Errorf("%w: %d fields of %d bytes, the limits are %d and %d", ErrChange, len(e.Fields), e.Size, MaxFields, MaxSize)
	}
	return nil
}

// move changes the place in the tree.
func (e *Entity) move(c *Change) {
	if c.Parent != nil {
		e.ParentID = *c.Parent
	}
	if c.Root != nil {
		e.RootID = *c.Root
	}
	if c.RemoveChild != "" {
		if i, found := slices.BinarySearch(e.Children, c.RemoveChild); found {
			e.Children = slices.Delete(e.Children, i, i+1)
		}
	}
	if c.AddChild != "" {
		if i, found := slices.BinarySearch(e.Children, c.AddChild); !found {
			e.Children = slices.Insert(e.Children, i, c.AddChild)
		}
	}
	if len(e.Children) == 0 || c.Kind == Deleted {
		e.Children = nil
	}
}

// grown returns a copy of list with one more at its end, of which the last n.
func grown[T any](list []T, one T, n int) []T {
	list = list[max(0, len(list)+1-n):]
	out := make([]T, 0, len(list)+1)
	return append(append(out, list...), one)
}

// text is the note of c with its instant.
func (c *Change) text(at time.Time) string {
	note := c.Note
	if note == "" {
		note = c.Kind.verb()
	}
	return cut(note, MaxNote) + " at " + at.Format(time.RFC3339)
}

// verb starts the sentence about a change of that kind; "" for no kind.
func (k Kind) verb() string {
	switch k {
	case Created:
		return "Created"
	case Modified:
		return "Modified"
	case Versioned:
		return "Versioned"
	case Borrowed:
		return "Borrowed"
	case Promoted:
		return "Promoted to root"
	case Detached:
		return "Detached"
	case Attached:
		return "Attached"
	case Deleted:
		return "Deleted"
	case Noted:
		return "Nothing to do"
	}
	return ""
}

// cut shortens s to at most n bytes, at the edge of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// FieldName reports whether s can be the name of a field: 1 to [MaxFieldName]
// bytes of UTF-8 without control characters and without the dot, which separates
// the steps of an address.
func FieldName(s string) bool {
	if s == "" || len(s) > MaxFieldName || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '.' {
			return false
		}
	}
	return true
}
