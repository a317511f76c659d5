package observer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// ParseAddr reads an address with or without its @.
func ParseAddr(s string) (entity.Addr, error) {
	if !strings.HasPrefix(s, "@") {
		s = "@" + s
	}
	return entity.ParseAddr(s)
}

// EntityAt returns the entity that an address speaks of, without its path: its
// head, read from the leader, or an old version folded from the journal. Version
// 3 is what it was when it was made, so it has the same bytes for ever (contract
// §4).
func EntityAt(ctx context.Context, b *bus.Bus, a entity.Addr) (*entity.Entity, error) {
	if a.Version == 0 {
		return head(ctx, b, a.ID)
	}
	t, err := Timeline(ctx, b, a.ID)
	if err != nil {
		return nil, err
	}
	e, ok := t.Version(a.Version)
	if !ok {
		return nil, op.Errorf(op.CodeNotFound, "address", "%s has no version %d", a.ID, a.Version)
	}
	return e, nil
}

// Value returns what an address names as JSON: a whole entity, or a value inside
// its fields.
func Value(ctx context.Context, b *bus.Bus, a entity.Addr) (json.RawMessage, error) {
	e, err := EntityAt(ctx, b, a)
	if err != nil {
		return nil, err
	}
	v, ok := a.Select(e)
	if !ok {
		return nil, op.Errorf(op.CodeNotFound, "address", "%s names nothing", a)
	}
	return v, nil
}

func head(ctx context.Context, b *bus.Bus, id string) (*entity.Entity, error) {
	data, found, err := b.Entity(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("observer: entity %s: %w", id, err)
	}
	if !found {
		return nil, op.Errorf(op.CodeNotFound, "address", "there is no entity %s", id)
	}
	var e entity.Entity
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("observer: entity %s: %w", id, err)
	}
	return &e, nil
}

// HistoryEntry is one change of an entity.
type HistoryEntry struct {
	Revision   uint64         `json:"revision"`
	Version    uint64         `json:"version"`
	OpID       string         `json:"op_id"`
	OpType     string         `json:"op_type,omitempty"`
	Kind       entity.Kind    `json:"kind"`
	Note       string         `json:"note,omitempty"`
	At         time.Time      `json:"at"`
	CausedBy   string         `json:"caused_by,omitempty"`
	Submitter  string         `json:"submitter,omitempty"`
	Executor   string         `json:"executor,omitempty"`
	JournalSeq uint64         `json:"journal_seq"`
	Change     *entity.Change `json:"change"` // not to be written to
}

// History returns every change of an entity, the oldest first, from the journal.
func History(ctx context.Context, b *bus.Bus, id string) ([]HistoryEntry, error) {
	var out []HistoryEntry
	submitted := map[string]*arbiter.Submit{} // open operations on the entity
	t, err := walk(ctx, b, id, func(c *applied) {
		h := HistoryEntry{OpID: c.result.OpID, Kind: c.change.Kind, Executor: c.result.Executor, JournalSeq: c.seq, Change: c.change}
		if s := submitted[h.OpID]; s != nil {
			h.OpType, h.CausedBy, h.Submitter = s.Operation.Type, s.CausedBy, s.Operation.Submitter
		}
		out = append(out, h)
	}, func(s *arbiter.Step) {
		for i := range s.In {
			if in := s.In[i].Submit; in != nil && in.Operation.Target == id && submitted[in.Operation.ID] == nil {
				submitted[in.Operation.ID] = in
			}
		}
	}, func(opID string) { delete(submitted, opID) })
	if err != nil {
		return nil, err
	}
	for i, e := range t.Entries() {
		out[i].Revision, out[i].Version, out[i].At, out[i].Note = e.Revision, e.Version, e.At, e.Change.Note
	}
	return out, nil
}

// Timeline returns every state that an entity ever had, folded from the journal.
func Timeline(ctx context.Context, b *bus.Bus, id string) (*entity.Timeline, error) {
	return walk(ctx, b, id, func(*applied) {}, func(*arbiter.Step) {}, func(string) {})
}

// applied is one change that a step applied.
type applied struct {
	seq    uint64
	step   *arbiter.Step
	result *arbiter.Result
	change *entity.Change
}

// walk folds the changes of one entity from the journal of its partition. It
// calls begin for every step that speaks of the entity, then change for every
// change of it and end for every operation on it that ended.
func walk(ctx context.Context, b *bus.Bus, id string, change func(*applied), begin func(*arbiter.Step), end func(opID string)) (*entity.Timeline, error) {
	if !op.Token(id) {
		return nil, op.Errorf(op.CodeBadID, "address", "%.80q is not the id of an entity", id)
	}
	t := &entity.Timeline{}
	// Most steps do not speak of the entity; its name in quotes is looked for
	// before a step is decoded. A token needs no escape in JSON.
	quoted := []byte(`"` + id + `"`)
	for e, err := range b.JournalRead(ctx, bus.PartitionOf(id, b.Layout().Partitions), 0) {
		if err != nil {
			return nil, fmt.Errorf("observer: history of %s: %w", id, err)
		}
		if !bytes.Contains(e.Data, quoted) {
			continue
		}
		s, err := decode(&e)
		if err != nil {
			return nil, err
		}
		begin(s)
		if err := foldStep(t, e.Seq, s, id, change, end); err != nil {
			return nil, fmt.Errorf("observer: history of %s, journal entry %d: %w", id, e.Seq, err)
		}
	}
	if t.Head() == nil {
		return nil, op.Errorf(op.CodeNotFound, "address", "there is no entity %s", id)
	}
	return t, nil
}

// foldStep folds what one step did to the entity.
func foldStep(t *entity.Timeline, seq uint64, s *arbiter.Step, id string, change func(*applied), end func(string)) error {
	for i := range s.Out {
		switch e := &s.Out[i]; {
		case e.Succeeded != nil && e.Succeeded.Target == id:
			c, err := changeOf(s, e.Succeeded)
			if err != nil {
				return err
			}
			if err := t.Add(c.change, c.result.OpID, s.At); err != nil {
				return err
			}
			c.seq = seq
			change(c)
			end(e.Succeeded.OpID)
		case e.Rejected != nil && e.Rejected.Target == id:
			end(e.Rejected.OpID)
		case e.Cancelled != nil && e.Cancelled.Target == id:
			end(e.Cancelled.OpID)
		case e.Shared != nil && e.Shared.Target == id:
			end(e.Shared.OpID)
		}
	}
	return nil
}

// changeOf returns the change that a success applied: it stands in the Result
// among the inputs of the same step.
func changeOf(s *arbiter.Step, done *arbiter.Succeeded) (*applied, error) {
	if done.Input < 0 || done.Input >= len(s.In) || s.In[done.Input].Result == nil {
		return nil, fmt.Errorf("the success of %s names input %d, which is no result", done.OpID, done.Input)
	}
	a := &applied{step: s, result: s.In[done.Input].Result, change: &entity.Change{}}
	if err := json.Unmarshal(a.result.Change, a.change); err != nil {
		return nil, fmt.Errorf("the change of %s: %w", done.OpID, err)
	}
	return a, nil
}
