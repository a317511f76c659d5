package entity

import (
	"strconv"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// FollowUp is the other side of a structural change: an operation of type
// structure_follow_up on Target, whose id is derived from its cause.
type FollowUp struct {
	Target string       `json:"target_entity_id"`
	Params FollowParams `json:"params"`
}

// FollowParams are the params of a structure_follow_up operation. Everything is
// optional; what is set is done in one change.
//
// The two sides of a structural change lie in different partitions and are
// committed one after the other, so each side states what it took for granted.
// The other side compares and, where the world has moved on, answers with a
// follow-up of its own instead of leaving the tree in two minds.
type FollowParams struct {
	AddChild    string `json:"add_child,omitempty"`
	ChildRoot   string `json:"child_root,omitempty"` // the root that the added child took; it is told when that is not the target's
	RemoveChild string `json:"remove_child,omitempty"`
	Root        string `json:"root,omitempty"`         // the new root of the target; cascades to its children
	Via         string `json:"via,omitempty"`          // the parent that Root comes from; ignored when the target has another by now
	ViaRevision uint64 `json:"via_revision,omitempty"` // at which that parent said so
	Hops        int    `json:"hops,omitempty"`         // levels that Root has come down
	Leave       string `json:"leave,omitempty"`        // the parent that cannot take the target; it becomes a root again
	Version     bool   `json:"version,omitempty"`
	Note        string `json:"note,omitempty"`
}

// FollowUpID returns the id of the index-th follow-up of an operation. It has a
// form that clients cannot use ([op.Reserved]), so that nobody can take it in
// advance.
func FollowUpID(causeOpID string, f FollowUp, index int) string {
	return op.FollowUpPrefix + derive("follow-up", causeOpID, f.Target, strconv.Itoa(index))
}

// Operation returns the operation that carries the index-th follow-up of an
// operation. It queues where it loses: a follow-up is never rejected in favour of
// something else.
func (f FollowUp) Operation(causeOpID string, index int) (op.Operation, error) {
	params, err := op.Marshal(f.Params)
	if err != nil {
		return op.Operation{}, err
	}
	retries := op.MaxRetry
	return op.Operation{
		ID: FollowUpID(causeOpID, f, index), Type: op.TypeFollowUp, Target: f.Target, Params: params,
		Priority: op.Critical, MaxRetries: &retries, OnConflict: op.OnConflictQueue,
	}, nil
}

// follow returns the params of the follow-up on target, so that everything for
// one target is one change there. The pointer is good until the next call.
func (c *Change) follow(target string) *FollowParams {
	for i := range c.Follow {
		if c.Follow[i].Target == target {
			return &c.Follow[i].Params
		}
	}
	c.Follow = append(c.Follow, FollowUp{Target: target})
	return &c.Follow[len(c.Follow)-1].Params
}

// version asks for a version of another entity and says why.
func (c *Change) version(target, note string) {
	f := c.follow(target)
	f.Version = true
	if f.Note != "" {
		note = f.Note + "; " + note
	}
	f.Note = note
}
