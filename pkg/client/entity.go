package client

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Entity is an entity as it is, or as one of its versions was when it was made.
type Entity struct {
	ID        string                     `json:"id"`
	Version   uint64                     `json:"version"`
	VersionID string                     `json:"version_id"`
	Revision  uint64                     `json:"revision"` // one up with each effect
	LineageID string                     `json:"lineage_id"`
	ParentID  string                     `json:"parent_id"` // "": a root
	RootID    string                     `json:"root_id"`   // its own id for a root
	Children  []string                   `json:"children"`  // sorted
	Fields    map[string]json.RawMessage `json:"fields"`
	// Sources says for each borrowed field where its value came from; nil for a
	// field's own value.
	Sources      map[string]*Source `json:"attribute_source"`
	CreatedAt    time.Time          `json:"created_at"`
	LastModified time.Time          `json:"last_modified"`
	LastOpID     string             `json:"last_op_id"`
	Deleted      bool               `json:"deleted"` // what is left of it: no fields, no place in a tree

	// Raw is all of it as the system has it.
	Raw json.RawMessage `json:"-"`
}

// Source says where a borrowed value came from.
type Source struct {
	EntityID string `json:"entity_id"`
	Version  uint64 `json:"version"`
	Revision uint64 `json:"revision"`
	Field    string `json:"field"`
}

// Value is what an address names.
type Value struct {
	Address  string          // in its full form, with the @
	Raw      json.RawMessage // a whole entity, or the value of a field, or one inside it
	Version  uint64          // of the entity that it was read from
	Revision uint64
	Deleted  bool // the entity is a tombstone
}

// Decode writes the value into v, as json.Unmarshal does.
func (v *Value) Decode(into any) error { return json.Unmarshal(v.Raw, into) }

// Get reads what an address names: @user-42 is an entity as it is now,
// @user-42.address.city a value inside it, @user-42~3 its version 3, which is the
// same for ever, and @user-42~3.counter a field of that. The @ may be left out. The
// value comes with the version and revision that it was read at, which
// [op.Operation.ExpectedVersion] can insist on. The error is [ErrNotFound] where
// there is no such thing, and [ErrInvalid] for what is no address.
func (c *Client) Get(ctx context.Context, address string) (Value, error) {
	a, err := parse(address)
	if err != nil {
		return Value{}, err
	}
	data, e, err := c.read(ctx, entity.Addr{ID: a.ID, Version: a.Version})
	if err != nil {
		return Value{}, err
	}
	v := Value{Address: a.String(), Raw: data, Version: e.Version, Revision: e.Revision, Deleted: e.Deleted}
	if len(a.Path) > 0 {
		var ok bool
		if v.Raw, ok = a.Select(&entity.Entity{Fields: e.Fields}); !ok {
			return Value{}, mistake("", op.CodeNotFound, "address", "%s names nothing", a)
		}
	}
	return v, nil
}

// Entity reads an entity, or one of its versions. Errors are those of
// [Client.Get].
func (c *Client) Entity(ctx context.Context, address string) (*Entity, error) {
	a, err := parse(address)
	if err != nil {
		return nil, err
	}
	if len(a.Path) > 0 {
		return nil, mistake("", op.CodeBadValue, "address", "%s is a value inside an entity", a)
	}
	_, e, err := c.read(ctx, a)
	return e, err
}

// parse reads an address with or without its @.
func parse(address string) (entity.Addr, error) {
	a, err := entity.ParseAddr("@" + strings.TrimPrefix(address, "@"))
	if e := op.AsError(err); e != nil {
		return a, refusal("", e)
	}
	return a, err
}

// read asks for a whole entity.
func (c *Client) read(ctx context.Context, a entity.Addr) (json.RawMessage, *Entity, error) {
	data, err := ask[json.RawMessage](ctx, c, &question{verb: "entity", arg: a.String()})
	if err != nil {
		return nil, nil, err
	}
	e := &Entity{Raw: data}
	if err := json.Unmarshal(data, e); err != nil {
		return nil, nil, trouble("", ErrUnavailable, err, "the answer cannot be read")
	}
	return data, e, nil
}

// Change is one change of an entity.
type Change struct {
	Revision   uint64    `json:"revision"` // it led to
	Version    uint64    `json:"version"`  // it led to
	OpID       string    `json:"op_id"`
	OpType     string    `json:"op_type"`
	Kind       string    `json:"kind"` // as in the entity events: created, modified, …
	Note       string    `json:"note"`
	At         time.Time `json:"at"`
	CausedBy   string    `json:"caused_by"` // the operation whose other side it is
	Submitter  string    `json:"submitter"`
	Executor   string    `json:"executor"`
	JournalSeq uint64    `json:"journal_seq"`

	// Set are the fields that it set, and Sources those among them that were
	// borrowed.
	Set     map[string]json.RawMessage
	Sources map[string]*Source
	// Raw is the whole change.
	Raw json.RawMessage `json:"change"`
}

// History returns every change of an entity, the oldest first. It reads the
// journal of the entity's partition, which takes as long as that is large.
func (c *Client) History(ctx context.Context, id string) ([]Change, error) {
	a, err := parse(id)
	if err != nil {
		return nil, err
	}
	if len(a.Path) > 0 || a.Version > 0 {
		return nil, mistake("", op.CodeBadID, "address", "%s is not the id of an entity", a)
	}
	all, err := ask[[]Change](ctx, c, &question{verb: "history", arg: a.ID})
	if err != nil {
		return nil, err
	}
	for i := range all {
		var set struct {
			Set     map[string]json.RawMessage `json:"set"`
			Sources map[string]*Source         `json:"source"`
		}
		if len(all[i].Raw) > 0 && json.Unmarshal(all[i].Raw, &set) == nil {
			all[i].Set, all[i].Sources = set.Set, set.Sources
		}
	}
	return all, nil
}

// Lineage is an entity's place among the others, as they are now, and the chain
// of its own versions.
type Lineage struct {
	LineageID string             `json:"lineage_id"`
	RootID    string             `json:"root_id"`
	Ancestors []Relative         `json:"ancestors"` // the parent first, the root last
	Entity    Relative           `json:"entity"`    // with all that is below it
	Versions  []string           `json:"version_ids"`
	Borrowed  map[string]*Source `json:"borrowed"`  // by field
	Truncated bool               `json:"truncated"` // there is more than it lists
}

// Relative is one entity of a lineage.
type Relative struct {
	ID       string     `json:"id"`
	Version  uint64     `json:"version"`
	Revision uint64     `json:"revision"`
	Deleted  bool       `json:"deleted"`
	Missing  bool       `json:"missing"` // named by a relative, but nobody has created it
	Children []Relative `json:"children"`
}

// Lineage reads an entity's ancestors, descendants and versions. The entities are
// read one after the other while others may change them.
func (c *Client) Lineage(ctx context.Context, id string) (*Lineage, error) {
	a, err := parse(id)
	if err != nil {
		return nil, err
	}
	l, err := ask[Lineage](ctx, c, &question{verb: "lineage", arg: a.ID})
	if err != nil {
		return nil, err
	}
	return &l, nil
}
