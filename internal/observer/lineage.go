package observer

import (
	"context"
	"fmt"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// lineageNodes bounds the entities that one lineage reads.
const lineageNodes = 1000

// LineageType is the value of "type" in a [LineageTree].
const LineageType = "ops.v1.lineage"

// LineageTree is an entity's place among the others, from the heads as they are
// now, and the chain of its own versions.
type LineageTree struct {
	Type      string        `json:"type"` // LineageType
	LineageID string        `json:"lineage_id"`
	RootID    string        `json:"root_id"`
	Ancestors []LineageNode `json:"ancestors,omitempty"` // the parent first, the root last
	Entity    LineageNode   `json:"entity"`              // with all that is below it
	// Versions are the ids of its versions, oldest first, the current one last.
	// The head keeps the last hundred; the history has all.
	Versions []string `json:"version_ids"`
	// Borrowed says per field where its value was borrowed.
	Borrowed map[string]*entity.Source `json:"borrowed,omitempty"`
	// Truncated is true when there is more than a lineage lists.
	Truncated bool `json:"truncated,omitempty"`
}

// LineageNode is one entity in a tree.
type LineageNode struct {
	ID       string        `json:"id"`
	Version  uint64        `json:"version,omitempty"`
	Revision uint64        `json:"revision,omitempty"`
	Deleted  bool          `json:"deleted,omitempty"`
	Missing  bool          `json:"missing,omitempty"` // named by a relative, but nobody has created it
	Children []LineageNode `json:"children,omitempty"`
}

// Lineage reads an entity, its ancestors and everything below it.
func Lineage(ctx context.Context, b *bus.Bus, id string) (*LineageTree, error) {
	if !op.Token(id) {
		return nil, op.Errorf(op.CodeBadID, "address", "%.80q is not the id of an entity", id)
	}
	e, err := head(ctx, b, id)
	if err != nil {
		return nil, err
	}
	t := &LineageTree{
		Type: LineageType, LineageID: e.LineageID, RootID: e.RootID,
		Versions: append(append([]string{}, e.OldVersionIDs...), e.VersionID),
	}
	for field, s := range e.AttributeSource {
		if s == nil {
			continue
		}
		if t.Borrowed == nil {
			t.Borrowed = map[string]*entity.Source{}
		}
		t.Borrowed[field] = s
	}
	w := &kinWalk{b: b, tree: t, seen: map[string]bool{id: true}}
	if err := w.up(ctx, e); err != nil {
		return nil, err
	}
	w.seen = map[string]bool{id: true}
	t.Entity, err = w.down(ctx, e)
	return t, err
}

// kinWalk reads relatives. The heads are read one after the other while the tree
// may change, so it trusts nothing: no entity is visited twice.
type kinWalk struct {
	b    *bus.Bus
	tree *LineageTree
	seen map[string]bool
	read int
}

// get reads a relative; nil: there is none.
func (w *kinWalk) get(ctx context.Context, id string) (*entity.Entity, error) {
	w.read++
	e, err := head(ctx, w.b, id)
	if known := op.AsError(err); known != nil && known.Code == op.CodeNotFound {
		return nil, nil //nolint:nilnil // a missing relative is an ordinary answer
	}
	if err != nil {
		return nil, fmt.Errorf("observer: lineage: %w", err)
	}
	return e, nil
}

// enter reports whether id may be visited.
func (w *kinWalk) enter(id string) bool {
	if w.seen[id] || w.read >= lineageNodes {
		w.tree.Truncated = w.tree.Truncated || w.read >= lineageNodes
		return false
	}
	w.seen[id] = true
	return true
}

func (w *kinWalk) up(ctx context.Context, e *entity.Entity) error {
	for e.ParentID != "" && w.enter(e.ParentID) {
		parent, err := w.get(ctx, e.ParentID)
		if err != nil {
			return err
		}
		if parent == nil {
			w.tree.Ancestors = append(w.tree.Ancestors, LineageNode{ID: e.ParentID, Missing: true})
			return nil
		}
		w.tree.Ancestors = append(w.tree.Ancestors, node(parent))
		e = parent
	}
	return nil
}

func (w *kinWalk) down(ctx context.Context, e *entity.Entity) (LineageNode, error) {
	n := node(e)
	for _, id := range e.Children {
		if !w.enter(id) {
			continue
		}
		child, err := w.get(ctx, id)
		if err != nil {
			return n, err
		}
		if child == nil {
			n.Children = append(n.Children, LineageNode{ID: id, Missing: true})
			continue
		}
		below, err := w.down(ctx, child)
		if err != nil {
			return n, err
		}
		n.Children = append(n.Children, below)
	}
	return n, nil
}

func node(e *entity.Entity) LineageNode {
	return LineageNode{ID: e.ID, Version: e.Version, Revision: e.Revision, Deleted: e.Deleted}
}
