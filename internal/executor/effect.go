package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Effect is what a handler wants of its entity, in the form in which handlers of
// any language say it. The zero value succeeds without changing a field and
// leaves a note.
//
// It has no parents and children: a place in a tree concerns more than one
// entity, and is changed by the built-in types.
type Effect struct {
	Set     map[string]json.RawMessage `json:"set,omitempty"`     // fields to set
	Source  map[string]*entity.Source  `json:"source,omitempty"`  // where fields in Set were borrowed from
	Version bool                       `json:"version,omitempty"` // it makes a new version
	Create  bool                       `json:"create,omitempty"`  // there is no entity, or a tombstone: make one
	Delete  bool                       `json:"delete,omitempty"`  // leave a tombstone
	Note    string                     `json:"note,omitempty"`    // a line for the history
}

// Change is the effect on an entity as it was before; nil: there was none. The
// error is for an effect that contradicts itself. Whether it fits the entity is
// for [entity.Apply] to say.
func (e *Effect) Change(before *entity.Entity) (*entity.Change, error) {
	c := &entity.Change{Kind: entity.Noted, Set: e.Set, Source: e.Source, Version: e.Version, Note: e.Note}
	for name := range e.Source {
		if _, ok := e.Set[name]; !ok {
			return nil, fmt.Errorf("the effect has a source of the field %.40q, which it does not set", name)
		}
	}
	switch {
	case e.Create && e.Delete:
		return nil, errors.New("the effect both creates and deletes")
	case e.Create:
		c.Kind = entity.Created
	case e.Delete:
		c.Kind = entity.Deleted
	case len(e.Source) > 0:
		c.Kind = entity.Borrowed
	case len(e.Set) > 0:
		c.Kind = entity.Modified
	case e.Version:
		c.Kind = entity.Versioned
	}
	if before == nil && !e.Create {
		return nil, errors.New("there is no entity; an effect that makes one says create")
	}
	return c, nil
}

// response is the answer of a handler of any language.
type response struct {
	Type   string   `json:"type"`
	Effect *Effect  `json:"effect"`
	Error  *mistake `json:"error"`
}

// mistake is a failure in the words of the handler.
type mistake struct {
	Code     string `json:"code"`
	Message  string `json:"message"`
	Terminal bool   `json:"terminal"`
}

// parseResponse reads an answer and refuses what it does not know, so that no
// misspelt word is passed over.
func parseResponse(data []byte) (*response, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	r := new(response)
	if err := dec.Decode(r); err != nil {
		return nil, err
	}
	_, more := dec.Token()
	switch {
	case !errors.Is(more, io.EOF):
		return nil, errors.New("there is something after the object")
	case r.Type != ResponseType:
		return nil, fmt.Errorf("its type %.40q is not %s", r.Type, ResponseType)
	case (r.Effect == nil) == (r.Error == nil):
		return nil, errors.New("it must have one of effect and error")
	}
	return r, nil
}

// failure is the handler's failure as the record has it.
func (m *mistake) failure() *op.Failure {
	if m.Message == "" {
		m.Message = "the handler gave no reason"
	}
	return &op.Failure{Code: m.Code, Message: m.Message, Terminal: m.Terminal}
}
