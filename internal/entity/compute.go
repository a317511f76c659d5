package entity

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Lookup reads another entity as it is now; (nil, nil) where there is none. An
// error means that nothing is known.
type Lookup func(id string) (*Entity, error)

// Compute says what a built-in operation does to its target. before is the
// target, nil where it never existed; look reads other entities (the source of a
// loan, the ancestors of a parent). Exactly one of the results is not nil, and it
// is a function of the arguments alone: an attempt may run again and again.
//
// A missing target is a retryable failure, since its creation may be on its way;
// a deleted one is a terminal failure for everything but a creation.
func Compute(o *op.Operation, before *Entity, look Lookup) (*Change, *op.Failure) {
	c := computation{o: o, e: before, look: look, change: &Change{}}
	if before != nil {
		c.change.Base, c.change.From = before.Revision, before.Version
	}
	f := c.admit()
	if f == nil {
		f = c.run()
	}
	if f == nil {
		f = c.fits()
	}
	if f != nil {
		return nil, f
	}
	return c.change, nil
}

// computation is one run of Compute.
type computation struct {
	o      *op.Operation
	e      *Entity
	look   Lookup
	change *Change
}

// admit asks whether an operation of that type can run on the target at all.
func (c *computation) admit() *op.Failure {
	exists := alive(c.e)
	switch {
	case c.o.Type == op.TypeCreate && exists:
		if f := c.expected(); f != nil {
			return f
		}
		return terminal(FailExists, "%s exists already", c.o.Target)
	case c.o.Type == op.TypeCreate:
		return c.expected()
	case c.e == nil:
		return retryable(FailNotFound, "there is no entity %s", c.o.Target)
	case !exists && c.o.Type != op.TypeFollowUp:
		return terminal(FailDeleted, "%s is deleted", c.o.Target)
	}
	return c.expected()
}

// expected compares expected_version. To expect 0 is to expect that there is
// nothing.
func (c *computation) expected() *op.Failure {
	if c.o.ExpectedVersion == nil {
		return nil
	}
	want, current := *c.o.ExpectedVersion, uint64(0)
	if c.e != nil {
		current = c.e.Version
	}
	if want >= 0 && uint64(want) == current || want == 0 && !alive(c.e) {
		return nil
	}
	return stale(c.o.Target, want, current)
}

func (c *computation) run() *op.Failure {
	switch c.o.Type {
	case op.TypeCreate:
		return c.create()
	case op.TypeVersion:
		return c.versioned()
	case op.TypeModifyField:
		return c.modify()
	case op.TypeBorrow:
		return c.borrow()
	case op.TypeComplexUpdate:
		return c.update()
	case op.TypePromoteToRoot:
		return c.leave(Promoted, "Promoted to root", "Already a root")
	case op.TypeDetach:
		return c.leave(Detached, "Detached", "Already detached")
	case op.TypeAttach:
		return c.attach()
	case op.TypeDelete:
		return c.remove()
	case op.TypeFollowUp:
		return c.followUp()
	}
	f := terminal(FailUnknownType, "%.80q is not a built-in type", c.o.Type)
	f.Reason = op.UnknownType
	return f
}

// fits refuses a change after which the entity would be too large to be stored.
func (c *computation) fits() *op.Failure {
	size, fields := 0, 0
	if alive(c.e) {
		size, fields = c.e.Size, len(c.e.Fields)
	}
	for _, name := range slices.Sorted(maps.Keys(c.change.Set)) {
		size += len(name) + len(c.change.Set[name])
		if old, ok := c.field(name); ok {
			size -= len(name) + len(old)
		} else {
			fields++
		}
	}
	if len(c.change.Set) > 0 && (size > MaxSize || fields > MaxFields) {
		return terminal(FailTooLarge, "%s would have %d fields of %d bytes, the limits are %d and %d", c.o.Target, fields, size, MaxFields, MaxSize)
	}
	return nil
}

// field reads a field of the target.
func (c *computation) field(name string) (json.RawMessage, bool) {
	if !alive(c.e) {
		return nil, false
	}
	v, ok := c.e.Fields[name]
	return v, ok
}

// read looks another entity up; it must be there.
func (c *computation) read(id, role string) (*Entity, *op.Failure) {
	e, f := c.peek(id)
	switch {
	case f != nil:
		return nil, f
	case e == nil:
		return nil, retryable(FailNotFound, "there is no entity %s to be the %s", id, role)
	case e.Deleted:
		return nil, terminal(FailDeleted, "%s is deleted and cannot be the %s", id, role)
	}
	return e, nil
}

// peek looks another entity up; nil where there is none.
func (c *computation) peek(id string) (*Entity, *op.Failure) {
	if id == c.o.Target {
		return c.e, nil
	}
	e, err := c.look(id)
	if err != nil {
		return nil, retryable(FailLookup, "reading %s: %v", id, err)
	}
	return e, nil
}

// create makes the entity; with a parent it is a child from the start.
func (c *computation) create() *op.Failure {
	p, err := readCreate(c.o)
	if err != nil {
		return badParams(err)
	}
	c.change.Kind, c.change.ID, c.change.Set, c.change.Version = Created, c.o.Target, p.fields, c.e != nil
	c.change.Note = "Created"
	if c.e != nil {
		c.change.Note = "Created again"
	}
	if p.parent == "" {
		return nil
	}
	root, f := c.adopt(p.parent)
	if f != nil {
		return f
	}
	c.change.Parent, c.change.Root = &p.parent, &root
	c.change.Note += " below " + p.parent
	return nil
}

func (c *computation) versioned() *op.Failure {
	if r := open(c.o); r.err != nil {
		return badParams(r.err)
	}
	c.change.Kind, c.change.Version, c.change.Note = Versioned, true, "Versioned"
	return nil
}

func (c *computation) modify() *op.Failure {
	p, err := readModify(c.o)
	if err != nil {
		return badParams(err)
	}
	c.change.Kind, c.change.Set = Modified, map[string]json.RawMessage{p.name: p.value}
	c.change.Note = "Modified " + p.name + " to " + cut(string(p.value), 60)
	return nil
}

func (c *computation) borrow() *op.Failure {
	p, err := readBorrow(c.o)
	if err != nil {
		return badParams(err)
	}
	source, f := c.read(p.entity, "source")
	if f != nil {
		return f
	}
	value, ok := source.Fields[p.from]
	if !ok {
		return terminal(FailNoField, "%s has no field %s", p.entity, p.from)
	}
	if old, ok := c.field(p.to); ok && kindOf(old) != "null" && kindOf(old) != kindOf(value) {
		return terminal(FailWrongType, "%s.%s is a JSON %s, %s is a %s", p.entity, p.from, kindOf(value), p.to, kindOf(old))
	}
	c.change.Kind = Borrowed
	c.change.Set = map[string]json.RawMessage{p.to: value}
	c.change.Source = map[string]*Source{p.to: {EntityID: source.ID, Version: source.Version, Revision: source.Revision, Field: p.from}}
	c.change.Note = "Borrowed " + p.to + " from " + p.entity + "." + p.from
	return nil
}

// remove leaves a tombstone. Only a leaf can be deleted: what becomes of a
// subtree is for its owner to say, one operation a decision.
func (c *computation) remove() *op.Failure {
	if r := open(c.o); r.err != nil {
		return badParams(r.err)
	}
	for _, child := range c.e.Children {
		e, f := c.peek(child)
		if f != nil {
			return f
		}
		if alive(e) && e.ParentID == c.e.ID { // else it has left, and the word of it is on its way
			return terminal(FailChildren, "%s has the child %s; detach or delete it first", c.o.Target, child)
		}
	}
	c.change.Kind, c.change.Version, c.change.Note = Deleted, true, "Deleted"
	if !c.e.Root() {
		c.change.follow(c.e.ParentID).RemoveChild = c.e.ID
		c.change.orphan(c.e.ID)
	}
	return nil
}
