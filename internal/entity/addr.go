package entity

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Addr names something to read (contract §4): an entity, one of its versions, or
// a value inside its fields.
//
//	@door              the entity as it is now
//	@door.colour       a field
//	@door.sizes.0.mm   a step into objects by key, into arrays by index from 0
//	@door~3            version 3, which never changes
//	@door~3.colour     a field of version 3
type Addr struct {
	ID      string
	Version uint64   // 0: the entity as it is now
	Path    []string // the field and the steps into it; empty: the whole entity
}

// ParseAddr reads an address. The error is an [*op.Error] with code
// [op.CodeBadValue] or [op.CodeBadID] and field "address".
func ParseAddr(s string) (Addr, error) {
	rest, ok := strings.CutPrefix(s, "@")
	if !ok {
		return Addr{}, op.Errorf(op.CodeBadValue, "address", "the address %.80q does not start with @", s)
	}
	head, path, deep := strings.Cut(rest, ".")
	id, version, versioned := strings.Cut(head, "~")
	a := Addr{ID: id}
	if !op.Token(id) {
		return Addr{}, op.Errorf(op.CodeBadID, "address", "the address names the entity %.80q, which is not a token", id)
	}
	if versioned {
		n, err := strconv.ParseUint(version, 10, 64)
		if err != nil || n == 0 || version != strconv.FormatUint(n, 10) {
			return Addr{}, op.Errorf(op.CodeBadValue, "address", "%.40q is not a version; they count from 1", version)
		}
		a.Version = n
	}
	if deep {
		a.Path = strings.Split(path, ".")
		if slices.Contains(a.Path, "") {
			return Addr{}, op.Errorf(op.CodeBadValue, "address", "the address %.80q has an empty step", s)
		}
	}
	return a, nil
}

// String returns the address as [ParseAddr] reads it.
func (a Addr) String() string {
	s := "@" + a.ID
	if a.Version != 0 {
		s += "~" + strconv.FormatUint(a.Version, 10)
	}
	return strings.Join(append([]string{s}, a.Path...), ".")
}

// Select returns what a names inside e, which the caller has read at a's version:
// the whole entity as JSON where a has no path. It is false where there is no such
// value.
func (a Addr) Select(e *Entity) (json.RawMessage, bool) {
	if e == nil {
		return nil, false
	}
	if len(a.Path) == 0 {
		b, err := op.Marshal(e)
		return b, err == nil
	}
	v, ok := e.Fields[a.Path[0]]
	for _, step := range a.Path[1:] {
		if !ok {
			return nil, false
		}
		v, ok = into(v, step)
	}
	return v, ok
}

// into takes one step into a value.
func into(v json.RawMessage, step string) (json.RawMessage, bool) {
	switch kindOf(v) {
	case "object":
		var m map[string]json.RawMessage
		if json.Unmarshal(v, &m) != nil {
			return nil, false
		}
		inner, ok := m[step]
		return inner, ok
	case "array":
		i, err := strconv.Atoi(step)
		var list []json.RawMessage
		if err != nil || strconv.Itoa(i) != step || json.Unmarshal(v, &list) != nil || i < 0 || i >= len(list) {
			return nil, false
		}
		return list[i], true
	}
	return nil, false
}
