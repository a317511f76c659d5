package resolver

import (
	"container/list"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
)

// Head is the value of an entity in OPS_ENTITIES: the entity and the journal
// step it reflects.
type Head struct {
	Partition  int    `json:"partition"`
	Step       uint64 `json:"step"`
	JournalSeq uint64 `json:"journal_seq"`
	entity.Entity
}

// Bounds of the cache of one partition. Entities need not fit into memory: what
// is not here is read from the view.
const maxHeads = 2000

// heads caches the entities of one partition. An entry that the view does not
// show yet is never dropped, so what is loaded is never older than the journal.
type heads struct {
	bus   Log
	world World
	byID  map[string]*list.Element
	order *list.List // front: used last

	// Revisions of heads that were dropped, for as many as fit: a server that
	// no longer leads may answer a read with an older one.
	dropped map[string]uint64
}

type head struct {
	id     string
	entity *entity.Entity // nil: there is none
	step   uint64         // last step that changed it; 0: as loaded
}

func newHeads(b Log, world World) *heads {
	return &heads{bus: b, world: world, byID: map[string]*list.Element{}, order: list.New(), dropped: map[string]uint64{}}
}

func (h *heads) get(id string) (*entity.Entity, bool) {
	el := h.byID[id]
	if el == nil {
		return nil, false
	}
	h.order.MoveToFront(el)
	return el.Value.(*head).entity, true
}

func (h *heads) put(id string, e *entity.Entity, step uint64) {
	if el := h.byID[id]; el != nil {
		v := el.Value.(*head)
		v.entity, v.step = e, step
		h.order.MoveToFront(el)
		return
	}
	h.byID[id] = h.order.PushFront(&head{id: id, entity: e, step: step})
}

// evict drops what was not used for longest, as far as the view has it: steps up
// to emitted are told.
func (h *heads) evict(emitted uint64) {
	for el := h.order.Back(); el != nil && h.order.Len() > maxHeads; {
		prev := el.Prev()
		if v := el.Value.(*head); v.step <= emitted {
			h.order.Remove(el)
			delete(h.byID, v.id)
			h.drop(v)
		}
		el = prev
	}
}

// maxDropped bounds the memory of revisions.
const maxDropped = 1 << 15

func (h *heads) drop(v *head) {
	if len(h.dropped) >= maxDropped {
		clear(h.dropped)
	}
	if v.entity != nil {
		h.dropped[v.id] = v.entity.Revision
	}
}

// load makes sure that the heads of ids are cached.
func (h *heads) load(ctx context.Context, ids []string) error {
	var missing []string
	for _, id := range ids {
		if _, ok := h.get(id); !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var mu sync.Mutex
	return h.world.each(ctx, len(missing), func(ctx context.Context, i int) error {
		id := missing[i]
		e, err := read(ctx, h.bus, id)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if least := h.dropped[id]; least > 0 && (e == nil || e.Revision < least) {
			return fmt.Errorf("resolver: entity %s: the view shows a revision before %d, which was read earlier", id, least)
		}
		delete(h.dropped, id)
		h.put(id, e, 0)
		return nil
	})
}

func read(ctx context.Context, b Log, id string) (*entity.Entity, error) {
	data, found, err := b.Entity(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("resolver: read entity %s: %w", id, err)
	}
	if !found {
		return nil, nil //nolint:nilnil // no entity is an ordinary answer
	}
	var v Head
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("resolver: entity %s: %w", id, err)
	}
	return &v.Entity, nil
}

// encode writes a head as JSON: its own members, then the entity's.
func (h *Head) encode() []byte {
	b := strconv.AppendInt([]byte(`{"partition":`), int64(h.Partition), 10)
	b = strconv.AppendUint(append(b, `,"step":`...), h.Step, 10)
	b = strconv.AppendUint(append(b, `,"journal_seq":`...), h.JournalSeq, 10)
	return append(h.AppendMembers(append(b, ',')), '}')
}

// snapshot encodes what an executor gets to see: the entity without the lists
// that only its readers want.
func snapshot(e *entity.Entity) json.RawMessage {
	if e == nil {
		return nil
	}
	slim := *e
	slim.History, slim.OldVersionIDs = nil, nil
	return slim.AppendJSON(nil)
}
