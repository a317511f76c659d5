package op

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Encode writes an operation as compact JSON, in the order of [Operation]'s
// fields and without HTML escaping. What [Decode] accepted comes back the same.
// The error is for params or created_at that are not JSON.
func Encode(o *Operation) ([]byte, error) {
	return AppendOperation(make([]byte, 0, 256+len(o.Params)), o)
}

// AppendOperation is [Encode] into the end of dst.
func AppendOperation(dst []byte, o *Operation) ([]byte, error) {
	if o.Params != nil && !json.Valid(o.Params) || o.CreatedAt != nil && !json.Valid(o.CreatedAt) {
		return nil, Errorf(CodeBadJSON, "", "params or created_at of operation %s are not JSON", o.ID)
	}
	dst = append(dst, '{')
	if o.ID != "" {
		dst = append(AppendString(append(dst, `"op_id":`...), o.ID), ',')
	}
	dst = AppendString(append(dst, `"op_type":`...), o.Type)
	dst = AppendString(append(dst, `,"target_entity_id":`...), o.Target)
	if len(o.Params) > 0 {
		dst = append(append(dst, `,"params":`...), o.Params...)
	}
	if o.Priority != 0 {
		dst = strconv.AppendInt(append(dst, `,"priority":`...), int64(o.Priority), 10)
	}
	if o.Parent != "" {
		dst = AppendString(append(dst, `,"parent_op_id":`...), o.Parent)
	}
	if o.RetryOf != "" {
		dst = AppendString(append(dst, `,"retry_of":`...), o.RetryOf)
	}
	if o.Source != "" {
		dst = AppendString(append(dst, `,"source_entity_id":`...), o.Source)
	}
	if o.MaxRetries != nil {
		dst = strconv.AppendInt(append(dst, `,"max_retries":`...), int64(*o.MaxRetries), 10)
	}
	if o.OnConflict != "" {
		dst = AppendString(append(dst, `,"on_conflict":`...), string(o.OnConflict))
	}
	if o.Preemptible {
		dst = append(dst, `,"preemptible":true`...)
	}
	if o.Deadline != nil {
		dst = AppendString(append(dst, `,"deadline":`...), o.Deadline.String())
	}
	if o.ExpectedVersion != nil {
		dst = strconv.AppendInt(append(dst, `,"expected_version":`...), *o.ExpectedVersion, 10)
	}
	if len(o.CreatedAt) > 0 {
		dst = append(append(dst, `,"created_at":`...), o.CreatedAt...)
	}
	if o.Submitter != "" {
		dst = AppendString(append(dst, `,"submitter":`...), o.Submitter)
	}
	dst = appendLabels(dst, o.Labels)
	return append(dst, '}'), nil
}

func appendLabels(dst []byte, labels map[string]string) []byte {
	if len(labels) == 0 {
		return dst
	}
	dst = append(dst, `,"labels":{`...)
	for i, k := range sortedKeys(labels) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, k), ':')
		dst = AppendString(dst, labels[k])
	}
	return append(dst, '}')
}

// String returns the wire form: the RFC 3339 instant or the duration.
func (d Deadline) String() string {
	if d.After > 0 {
		return d.After.String()
	}
	return d.At.UTC().Format(time.RFC3339Nano)
}

// Marshal is json.Marshal without HTML escaping: what a person reads in a
// message is what was written. There is no newline at the end.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string, the way encoding/json does without
// HTML escaping. What is not UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = appendEscape(append(dst, s[start:i]...), c)
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(append(dst, s[start:i]...), `\ufffd`...)
			start = i + n
		case r == '\u2028' || r == '\u2029': // line ends to JavaScript
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&0xF])
			start = i + n
		}
		i += n
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
