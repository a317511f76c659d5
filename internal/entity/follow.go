package entity

// FollowUp is the other side of a structural change: an operation of type
// structure_follow_up on Target, whose id the resolver derives from its cause.
type FollowUp struct {
	Target string       `json:"target_entity_id"`
	Params FollowParams `json:"params"`
}

// FollowParams are the params of a structure_follow_up operation. Everything is
// optional; what is set is done in one change.
type FollowParams struct {
	AddChild    string `json:"add_child,omitempty"`
	RemoveChild string `json:"remove_child,omitempty"`
	Root        string `json:"root,omitempty"`    // the new root of the target; cascades to its children
	Version     bool   `json:"version,omitempty"` // the tree below the target changed
	Note        string `json:"note,omitempty"`
}
