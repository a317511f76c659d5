package entity

import (
	"slices"
	"strings"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// maxHops ends a new root's way down. It only matters while two entities are each
// other's ancestors, before one of them is sent back.
const maxHops = 4096

// sentBack starts the note about a child that could not be taken.
const sentBack = "Sent back "

// orphan makes the entity self a root.
func (c *Change) orphan(self string) {
	none := ""
	c.Parent, c.Root = &none, &self
}

// cascade tells the children of e its new root.
func (c *Change) cascade(e *Entity, root string, hops int) {
	for _, child := range e.Children {
		f := c.follow(child)
		f.Root, f.Via, f.ViaRevision, f.Hops = root, e.ID, c.Base+1, hops+1
	}
}

// leave makes a child the root of its own tree; the old root's tree is versioned
// without it. A root stays what it is.
func (c *computation) leave(kind Kind, done, already string) *op.Failure {
	if r := open(c.o); r.err != nil {
		return badParams(r.err)
	}
	if c.e.Root() {
		c.change.Kind, c.change.Note = Noted, already
		return nil
	}
	c.change.Kind, c.change.Version, c.change.Note = kind, true, done+" from "+c.e.ParentID
	c.change.orphan(c.e.ID)
	c.abandon()
	c.change.cascade(c.e, c.e.ID, 0)
	return nil
}

// abandon tells the old parent and the old root that the entity is gone.
func (c *computation) abandon() {
	if c.e.Root() {
		return
	}
	c.change.follow(c.e.ParentID).RemoveChild = c.e.ID
	if c.e.RootID != c.e.ID {
		c.change.version(c.e.RootID, "Versioned without "+c.e.ID)
	}
}

// attach makes the entity a child of another one; both the entity and the new
// root are versioned.
func (c *computation) attach() *op.Failure {
	parent, err := readAttach(c.o)
	if err != nil {
		return badParams(err)
	}
	if parent == c.e.ParentID {
		c.change.Kind, c.change.Note = Noted, "Already attached to "+parent
		return nil
	}
	c.abandon()
	root, f := c.adopt(parent)
	if f != nil {
		return f
	}
	c.change.version(root, "Versioned with "+c.e.ID)
	c.change.Kind, c.change.Version, c.change.Note = Attached, true, "Attached to "+parent
	c.change.Parent, c.change.Root = &parent, &root
	if root != c.e.RootID {
		c.change.cascade(c.e, root, 0)
	}
	return nil
}

// adopt asks whether parent can take the target, tells it to, and returns the
// root of its tree.
func (c *computation) adopt(parent string) (root string, f *op.Failure) {
	p, f := c.read(parent, "parent")
	if f != nil {
		return "", f
	}
	if len(p.Children) >= MaxChildren {
		return "", terminal(FailTooMany, "%s has %d children already", parent, len(p.Children))
	}
	below, root, f := c.climb(p, c.o.Target)
	switch {
	case f != nil:
		return "", f
	case below:
		return "", terminal(FailCycle, "%s lies below %s", parent, c.o.Target)
	}
	follow := c.change.follow(parent)
	follow.AddChild, follow.ChildRoot = c.o.Target, root
	return root, nil
}

// climb walks from e up to its root. It reports whether it met the entity id on
// the way (e included) and returns the top that it reached.
func (c *computation) climb(e *Entity, id string) (met bool, top string, f *op.Failure) {
	for range MaxDepth {
		if e.ID == id {
			return true, e.ID, nil
		}
		if e.Root() {
			return false, e.ID, nil
		}
		next, f := c.peek(e.ParentID)
		if f != nil {
			return false, "", f
		}
		if next == nil { // its head is not to be seen yet; the child knows its root
			return e.ParentID == id, e.RootID, nil
		}
		e = next
	}
	return false, "", terminal(FailTooDeep, "the tree above %s has more than %d levels", e.ID, MaxDepth)
}

// followUp does the other side of a structural change. It compares what the
// first side took for granted with what is true by now: two entities that became
// each other's ancestors at the same moment, a parent that was deleted while a
// child came, a root that changed on the way.
func (c *computation) followUp() *op.Failure {
	p, err := readFollow(c.o)
	if err != nil {
		return badParams(err)
	}
	c.change.Kind = Noted
	if c.e.Deleted {
		c.bereave(p)
		return nil
	}
	var done []string
	gone, f := c.gone(p.RemoveChild)
	if f != nil {
		return f
	}
	if gone {
		c.change.Kind, c.change.RemoveChild = Modified, p.RemoveChild
		done = append(done, "Removed child "+p.RemoveChild)
	}
	root, f := c.newRoot(p)
	if f != nil {
		return f
	}
	if root != "" {
		c.change.Kind, c.change.Root = Modified, &root
		done = append(done, "Root is "+root)
		c.change.cascade(c.e, root, p.Hops)
	}
	if p.AddChild != "" {
		note, f := c.take(p)
		if f != nil {
			return f
		}
		done = append(done, note)
		if strings.HasPrefix(note, sentBack) && p.RemoveChild == "" { // nothing to make a version for
			p.Version, p.Note = false, ""
		}
	}
	if p.Leave != "" && p.Leave == c.e.ParentID {
		c.change.Kind, c.change.Version = Detached, true
		c.change.orphan(c.e.ID)
		// It may have come back in the meantime, and that parent may know it.
		c.change.follow(p.Leave).RemoveChild = c.e.ID
		c.change.cascade(c.e, c.e.ID, 0)
		done = append(done, "Detached from "+p.Leave+", which could not take it")
	}
	if p.Version {
		if c.change.Version = true; c.change.Kind != Detached {
			c.change.Kind = Versioned
		}
	}
	if p.Note != "" {
		done = append(done, p.Note)
	}
	c.change.Note = strings.Join(done, "; ")
	return nil
}

// bereave answers for a tombstone: a child that came too late becomes a root.
func (c *computation) bereave(p FollowParams) {
	if p.AddChild == "" {
		return
	}
	c.change.follow(p.AddChild).Leave = c.e.ID
	c.change.Note = sentBack + p.AddChild
}

// gone asks whether a child is to be removed. A child that left and came back may
// have its follow-ups in any order, and the word that it left may be the last to
// come: then it is here to stay.
func (c *computation) gone(child string) (bool, *op.Failure) {
	if child == "" || !slices.Contains(c.e.Children, child) {
		return false, nil
	}
	e, f := c.peek(child)
	if f != nil {
		return false, f
	}
	return !alive(e) || e.ParentID != c.e.ID, nil
}

// newRoot is the root that a follow-up gives the target, "" for none. A word from
// a parent that is not the parent any more is void. The word may also be older
// than what the parent says by now, when the target left and came back in
// between; then the parent's head counts.
func (c *computation) newRoot(p FollowParams) (string, *op.Failure) {
	if p.Root == "" || p.Hops > maxHops || p.Via != c.e.ParentID || c.e.Root() {
		return "", nil
	}
	root := p.Root
	parent, f := c.peek(p.Via)
	if f != nil {
		return "", f
	}
	if parent != nil && parent.Revision >= p.ViaRevision {
		root = parent.RootID
	}
	if root == c.e.RootID {
		return "", nil
	}
	return root, nil
}

// take adds a child, or sends it back where it lies above the target by now or
// where there is no room.
func (c *computation) take(p FollowParams) (note string, f *op.Failure) {
	// What the child took for its root may be old, what it was told since may be
	// older, and it may have left already: then the word of that has come or will.
	child, f := c.peek(p.AddChild)
	if f != nil {
		return "", f
	}
	switch {
	case slices.Contains(c.e.Children, p.AddChild):
		note = "Child " + p.AddChild + " is here already"
	case child != nil && child.ParentID != c.e.ID:
		return "Child " + p.AddChild + " has left already", nil
	default:
		above, _, f := c.climb(c.e, p.AddChild)
		if f != nil && !f.Terminal {
			return "", f
		}
		if above || f != nil || len(c.e.Children) >= MaxChildren {
			c.change.follow(p.AddChild).Leave = c.e.ID
			return sentBack + p.AddChild, nil
		}
		c.change.Kind, c.change.AddChild = Modified, p.AddChild
		note = "Added child " + p.AddChild
	}
	root := c.e.RootID
	if c.change.Root != nil {
		root = *c.change.Root
	}
	if p.ChildRoot != "" && p.ChildRoot != root || child != nil && child.ParentID == c.e.ID && child.RootID != root {
		f := c.change.follow(p.AddChild)
		f.Root, f.Via, f.ViaRevision, f.Hops = root, c.e.ID, c.change.Base+1, p.Hops+1
	}
	return note, nil
}
