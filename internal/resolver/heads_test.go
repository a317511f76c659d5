package resolver

import (
	"context"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
)

// shows is a log whose view of every entity is what it holds.
type shows struct {
	Log
	head *Head
}

func (s *shows) Entity(context.Context, string) (data []byte, found bool, err error) {
	if s.head == nil {
		return nil, false, nil
	}
	return s.head.encode(), true, nil
}

// A server that no longer leads may answer a read with an older head. What is
// decided and computed on that would not be what the journal leads to, so a head
// that is older than one read before is an error, and the same one is not.
func TestAnOlderHeadIsNotBelieved(t *testing.T) {
	view := &shows{}
	h := newHeads(view, realWorld())
	h.drop(&head{id: "door", entity: &entity.Entity{ID: "door", Revision: 5}})
	if err := h.load(t.Context(), []string{"door"}); err == nil {
		t.Error("that there is no such entity is believed")
	}
	for _, revision := range []uint64{1, 4} {
		view.head = &Head{Entity: entity.Entity{ID: "door", Revision: revision}}
		if err := h.load(t.Context(), []string{"door"}); err == nil {
			t.Errorf("revision %d is believed after revision 5", revision)
		}
	}
	view.head = &Head{Entity: entity.Entity{ID: "door", Revision: 5}}
	if err := h.load(t.Context(), []string{"door"}); err != nil {
		t.Errorf("the same head is not believed: %v", err)
	}
	if e, ok := h.get("door"); !ok || e.Revision != 5 {
		t.Errorf("%+v, %v", e, ok)
	}
}
