package entity

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// AppendJSON appends e as [op.Marshal] writes it, many times faster: a head with
// a full history is written for every change, and reflection over a hundred notes
// would be most of what a change costs.
func (e *Entity) AppendJSON(dst []byte) []byte {
	return append(e.AppendMembers(append(dst, '{')), '}')
}

// AppendMembers appends the members of e without the braces around them, for
// whoever has members of its own to put before.
func (e *Entity) AppendMembers(dst []byte) []byte {
	dst = slices.Grow(dst, e.room())
	dst = op.AppendString(append(dst, `"id":`...), e.ID)
	dst = number(dst, `,"version":`, e.Version)
	dst = op.AppendString(append(dst, `,"version_id":`...), e.VersionID)
	dst = optional(dst, `,"previous_version_id":`, e.PreviousVersionID)
	dst = list(dst, `,"old_version_ids":`, e.OldVersionIDs)
	dst = number(dst, `,"revision":`, e.Revision)
	dst = op.AppendString(append(dst, `,"lineage_id":`...), e.LineageID)
	dst = optional(dst, `,"parent_id":`, e.ParentID)
	dst = op.AppendString(append(dst, `,"root_id":`...), e.RootID)
	dst = list(dst, `,"children":`, e.Children)
	dst = e.appendFields(dst)
	dst = number(dst, `,"version_count":`, e.VersionCount)
	dst = number(dst, `,"borrow_count":`, e.BorrowCount)
	if len(e.History) > 0 {
		dst = append(dst, `,"modification_history":`...)
		for i := range e.History {
			dst = e.History[i].append(append(dst, "[,"[min(i, 1)]))
		}
		dst = append(dst, ']')
	}
	dst = instant(dst, `,"created_at":`, e.CreatedAt)
	if e.ForkedAt != nil {
		dst = instant(dst, `,"forked_at":`, *e.ForkedAt)
	}
	dst = instant(dst, `,"last_modified":`, e.LastModified)
	dst = op.AppendString(append(dst, `,"last_op_id":`...), e.LastOpID)
	if e.Deleted {
		dst = append(dst, `,"deleted":true`...)
	}
	return dst
}

// room is about how many bytes e takes as JSON: a head with a full history has ten
// thousand, and growing up to that by doubling would cost as much again.
func (e *Entity) room() int {
	n := 640 + e.Size + 48*(len(e.OldVersionIDs)+len(e.Children)) + 128*len(e.AttributeSource)
	for i := range e.History {
		n += 96 + len(e.History[i].OpID) + len(e.History[i].Text)
	}
	return n
}

// appendFields appends the fields, their size and their sources.
func (e *Entity) appendFields(dst []byte) []byte {
	dst = append(dst, `,"fields":{`...)
	for i, name := range slices.Sorted(maps.Keys(e.Fields)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(op.AppendString(dst, name), ':')
		dst = append(dst, e.Fields[name]...)
	}
	dst = strconv.AppendInt(append(dst, `},"size":`...), int64(e.Size), 10)
	dst = append(dst, `,"attribute_source":{`...)
	for i, name := range slices.Sorted(maps.Keys(e.AttributeSource)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(op.AppendString(dst, name), ':')
		dst = e.AttributeSource[name].append(dst)
	}
	return append(dst, '}')
}

func (s *Source) append(dst []byte) []byte {
	if s == nil {
		return append(dst, "null"...)
	}
	dst = op.AppendString(append(dst, `{"entity_id":`...), s.EntityID)
	dst = number(dst, `,"version":`, s.Version)
	dst = number(dst, `,"revision":`, s.Revision)
	dst = op.AppendString(append(dst, `,"field":`...), s.Field)
	return append(dst, '}')
}

func (n *Note) append(dst []byte) []byte {
	dst = instant(dst, `{"at":`, n.At)
	dst = op.AppendString(append(dst, `,"op_id":`...), n.OpID)
	dst = number(dst, `,"revision":`, n.Revision)
	dst = op.AppendString(append(dst, `,"text":`...), n.Text)
	return append(dst, '}')
}

func number(dst []byte, key string, n uint64) []byte {
	return strconv.AppendUint(append(dst, key...), n, 10)
}

func optional(dst []byte, key, s string) []byte {
	if s == "" {
		return dst
	}
	return op.AppendString(append(dst, key...), s)
}

func list(dst []byte, key string, ids []string) []byte {
	if len(ids) == 0 {
		return dst
	}
	dst = append(dst, key...)
	for i, id := range ids {
		dst = op.AppendString(append(dst, "[,"[min(i, 1)]), id)
	}
	return append(dst, ']')
}

func instant(dst []byte, key string, t time.Time) []byte {
	dst = append(append(dst, key...), '"')
	return append(t.AppendFormat(dst, time.RFC3339Nano), '"')
}
