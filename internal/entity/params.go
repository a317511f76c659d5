package entity

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// CheckParams tells whether the params of a built-in operation have the shape of
// its type, so that the edge can refuse what no attempt could do. The error has
// code [op.CodeBadParams] (or [op.CodeBadID]) and names the field below params.
// Other types are not looked at: their schema is elsewhere.
func CheckParams(o *op.Operation) *op.Error {
	switch o.Type {
	case op.TypeVersion, op.TypePromoteToRoot, op.TypeDetach, op.TypeDelete:
		return open(o).err
	case op.TypeCreate:
		_, err := readCreate(o)
		return err
	case op.TypeModifyField:
		_, err := readModify(o)
		return err
	case op.TypeBorrow:
		_, err := readBorrow(o)
		return err
	case op.TypeComplexUpdate:
		_, err := readUpdate(o)
		return err
	case op.TypeAttach:
		_, err := readAttach(o)
		return err
	case op.TypeFollowUp:
		_, err := readFollow(o)
		return err
	}
	return nil
}

type createParams struct {
	fields map[string]json.RawMessage
	parent string
}

func readCreate(o *op.Operation) (createParams, *op.Error) {
	r := open(o, "fields", "parent_id")
	p := createParams{fields: r.fields("fields"), parent: r.id("parent_id")}
	if p.parent == o.Target {
		r.refuse("parent_id", "an entity cannot be its own parent")
	}
	return p, r.err
}

type modifyParams struct {
	name  string
	value json.RawMessage
}

func readModify(o *op.Operation) (modifyParams, *op.Error) {
	r := open(o, "field_name", "new_value")
	p := modifyParams{name: r.name("field_name"), value: r.members["new_value"]}
	r.need("field_name", "new_value")
	return p, r.err
}

type borrowParams struct{ entity, from, to string }

func readBorrow(o *op.Operation) (borrowParams, *op.Error) {
	r := open(o, "source_entity_id", "source_field", "target_field")
	p := borrowParams{entity: r.id("source_entity_id"), from: r.name("source_field"), to: r.name("target_field")}
	r.need("source_field", "target_field")
	switch {
	case p.entity == "" && o.Source == "":
		r.refuse("source_entity_id", "source_entity_id is missing, in params and in the operation")
	case p.entity == "":
		p.entity = o.Source
	case o.Source != "" && o.Source != p.entity:
		r.refuse("source_entity_id", "params name the source %s, the operation names %s", p.entity, o.Source)
	}
	return p, r.err
}

type updateParams struct{ set, increment, appends map[string]json.RawMessage }

func readUpdate(o *op.Operation) (updateParams, *op.Error) {
	r := open(o, "set", "increment", "append")
	p := updateParams{set: r.fields("set"), increment: r.fields("increment"), appends: r.fields("append")}
	if len(p.set)+len(p.increment)+len(p.appends) == 0 {
		r.refuse("", "at least one of set, increment and append must name a field")
	}
	for _, name := range slices.Sorted(maps.Keys(p.increment)) {
		if kindOf(p.increment[name]) != "number" {
			r.refuse("increment."+name, "the increment of %s is a JSON %s instead of a number", name, kindOf(p.increment[name]))
		}
		if _, twice := p.set[name]; twice {
			r.refuse("increment."+name, "%s stands in set and in increment", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.appends)) {
		if _, twice := p.set[name]; twice {
			r.refuse("append."+name, "%s stands in set and in append", name)
		}
		if _, twice := p.increment[name]; twice {
			r.refuse("append."+name, "%s stands in increment and in append", name)
		}
	}
	return p, r.err
}

func readAttach(o *op.Operation) (parent string, err *op.Error) {
	r := open(o, "parent_id")
	parent = r.id("parent_id")
	r.need("parent_id")
	if parent == o.Target {
		r.refuse("parent_id", "an entity cannot be its own parent")
	}
	return parent, r.err
}

func readFollow(o *op.Operation) (FollowParams, *op.Error) {
	var p FollowParams
	dec := json.NewDecoder(bytes.NewReader(o.Params))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return p, op.Errorf(op.CodeBadParams, "params", "%v", err)
	}
	for _, id := range []string{p.AddChild, p.ChildRoot, p.RemoveChild, p.Root, p.Via, p.Leave} {
		if id != "" && !op.Token(id) {
			return p, op.Errorf(op.CodeBadID, "params", "%.80q is not an id", id)
		}
	}
	return p, nil
}

// reader takes params apart and keeps the first mistake.
type reader struct {
	typ     string
	members map[string]json.RawMessage
	err     *op.Error
}

// open reads params that may have the members named known.
func open(o *op.Operation, known ...string) *reader {
	r := &reader{typ: o.Type}
	if len(o.Params) == 0 {
		return r
	}
	if err := json.Unmarshal(o.Params, &r.members); err != nil {
		r.refuse("", "params are not a JSON object")
		return r
	}
	found := 0
	for _, k := range known {
		if _, ok := r.members[k]; ok {
			found++
		}
	}
	if found == len(r.members) {
		return r
	}
	for _, k := range slices.Sorted(maps.Keys(r.members)) {
		if !slices.Contains(known, k) {
			r.refuse(cut(k, op.MaxToken), "%s has no param %.80q; it has %s", o.Type, k, listed(known))
		}
	}
	return r
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (r *reader) refuse(member, format string, args ...any) {
	if r.err != nil {
		return
	}
	field := "params"
	if member != "" {
		field += "." + member
	}
	r.err = op.Errorf(op.CodeBadParams, field, format, args...)
}

// need refuses params without one of the members.
func (r *reader) need(members ...string) {
	for _, m := range members {
		if _, ok := r.members[m]; !ok {
			r.refuse(m, "%s needs the param %s", r.typ, m)
		}
	}
}

func (r *reader) text(member string) (s string, ok bool) {
	raw, ok := r.members[member]
	if !ok {
		return "", false
	}
	if kindOf(raw) != "string" || json.Unmarshal(raw, &s) != nil {
		r.refuse(member, "%s is a JSON %s instead of a string", member, kindOf(raw))
		return "", false
	}
	return s, true
}

func (r *reader) id(member string) string {
	s, ok := r.text(member)
	if ok && !op.Token(s) && r.err == nil {
		r.err = op.Errorf(op.CodeBadID, "params."+member, "%s %.80q is not a token", member, s)
	}
	return s
}

func (r *reader) name(member string) string {
	s, ok := r.text(member)
	if ok && !FieldName(s) {
		r.refuse(member, "%.80q cannot be the name of a field: 1 to %d bytes without dots and control characters", s, MaxFieldName)
	}
	return s
}

// fields reads an object whose keys are names of fields.
func (r *reader) fields(member string) map[string]json.RawMessage {
	raw, ok := r.members[member]
	if !ok {
		return nil
	}
	var m map[string]json.RawMessage
	if kindOf(raw) != "object" || json.Unmarshal(raw, &m) != nil {
		r.refuse(member, "%s is a JSON %s instead of an object", member, kindOf(raw))
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !FieldName(name) {
			r.refuse(member, "%.80q cannot be the name of a field: 1 to %d bytes without dots and control characters", name, MaxFieldName)
		}
	}
	return m
}

// kindOf names the JSON type of a value; "value" when it is none.
func kindOf(raw json.RawMessage) string {
	for _, c := range raw {
		switch c {
		case ' ', '\t', '\n', '\r':
			continue
		case '{':
			return "object"
		case '[':
			return "array"
		case '"':
			return "string"
		case 't', 'f':
			return "boolean"
		case 'n':
			return "null"
		}
		return "number"
	}
	return "value"
}
