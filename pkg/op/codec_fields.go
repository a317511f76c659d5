package op

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/guess"
)

// The fields of an operation on the wire.
const (
	fieldSchema      = "schema"
	fieldID          = "op_id"
	fieldType        = "op_type"
	fieldTarget      = "target_entity_id"
	fieldParams      = "params"
	fieldPriority    = "priority"
	fieldParent      = "parent_op_id"
	fieldRetryOf     = "retry_of"
	fieldSource      = "source_entity_id"
	fieldMaxRetries  = "max_retries"
	fieldOnConflict  = "on_conflict"
	fieldPreemptible = "preemptible"
	fieldDeadline    = "deadline"
	fieldExpected    = "expected_version"
	fieldCreatedAt   = "created_at"
	fieldSubmitter   = "submitter"
	fieldLabels      = "labels"
)

// fields lists them in the order of [Operation]; the index is the bit under
// which the decoder remembers what it has seen.
var fields = []string{
	fieldSchema, fieldID, fieldType, fieldTarget, fieldParams, fieldPriority, fieldParent, fieldRetryOf, fieldSource,
	fieldMaxRetries, fieldOnConflict, fieldPreemptible, fieldDeadline, fieldExpected, fieldCreatedAt, fieldSubmitter, fieldLabels,
}

// operation reads one operation; the scanner stands on its brace.
func (d *decoder) operation(o *Operation) *Error {
	var seen uint32
	var info TypeInfo
	d.i++
	d.space()
	for more := d.peek() != '}'; more; {
		k, err := d.key()
		if err != nil {
			return err
		}
		bit := uint32(0)
		for i := range fields {
			if fields[i] == string(k) {
				bit = 1 << i
			}
		}
		if seen&bit != 0 {
			return Errorf(CodeDuplicateKey, clip(k), "the key %q appears twice in one object", clip(k))
		}
		seen |= bit
		if err = d.field(k, o, &info); err != nil {
			return err
		}
		d.space()
		switch d.peek() {
		case ',':
			d.i++
			d.space()
		case '}':
			more = false
		default:
			return d.syntax("a comma or the end of the operation")
		}
	}
	d.i++
	return d.complete(o, info)
}

// complete asks what can only be asked of the whole operation, and fills in the
// defaults.
func (d *decoder) complete(o *Operation, info TypeInfo) *Error {
	if o.Type == "" {
		return Errorf(CodeMissingField, fieldType, "op_type is missing")
	}
	switch {
	case o.Target == "" && d.target == "":
		return Errorf(CodeMissingField, fieldTarget, "target_entity_id is missing, and the subject names no target")
	case o.Target == "":
		o.Target = d.target
	case d.target != "" && o.Target != d.target:
		return Errorf(CodeTargetDiffers, fieldTarget, "the subject names the target %s, the body names %s", d.target, o.Target)
	}
	if o.Priority == 0 {
		if o.Priority = info.Priority; o.Priority == 0 {
			o.Priority = Normal
		}
	}
	if o.MaxRetries == nil {
		n := info.MaxRetries
		o.MaxRetries = &n
	}
	if o.OnConflict == "" {
		o.OnConflict = OnConflictReject
	}
	return nil
}

// field reads the value of the field k.
func (d *decoder) field(k []byte, o *Operation, info *TypeInfo) (err *Error) {
	switch string(k) {
	case fieldSchema:
		return d.schema()
	case fieldID:
		o.ID, err = d.token(fieldID)
		if err == nil && !d.internal && Reserved(o.ID) {
			return Errorf(CodeBadID, fieldID, "op_id %s has the form of an id that the system gives", o.ID)
		}
	case fieldType:
		o.Type, err = d.opType(info)
	case fieldTarget:
		o.Target, err = d.token(fieldTarget)
	case fieldParams:
		o.Params, err = d.params()
	case fieldPriority:
		o.Priority, err = d.priority()
	case fieldParent:
		o.Parent, err = d.token(fieldParent)
	case fieldRetryOf:
		o.RetryOf, err = d.token(fieldRetryOf)
	case fieldSource:
		o.Source, err = d.token(fieldSource)
	case fieldMaxRetries:
		var n int64
		n, err = d.integer(fieldMaxRetries, MaxRetry)
		retries := int(n)
		o.MaxRetries = &retries
	case fieldOnConflict:
		o.OnConflict, err = d.onConflict()
	case fieldPreemptible:
		if err = d.kind('t', fieldPreemptible); err == nil {
			o.Preemptible = d.peek() == 't'
			err = d.value(1)
		}
	case fieldDeadline:
		o.Deadline, err = d.deadline()
	case fieldExpected:
		var n int64
		n, err = d.integer(fieldExpected, 1<<63-1)
		o.ExpectedVersion = &n
	case fieldCreatedAt:
		o.CreatedAt, err = d.createdAt()
	case fieldSubmitter:
		o.Submitter, err = d.text(fieldSubmitter)
	case fieldLabels:
		o.Labels, err = d.labels()
	default:
		return Errorf(CodeUnknownField, clip(k), "an operation has no field %q%s", clip(k), guess.Name(string(k), fields))
	}
	return err
}

func (d *decoder) schema() *Error {
	s, err := d.text(fieldSchema)
	if err == nil && s != Schema {
		err = Errorf(CodeUnknownSchema, fieldSchema, "the schema is %.80q instead of %s", s, Schema)
	}
	return err
}

// raw reads a string's bytes; they may share the body's memory.
func (d *decoder) raw(field string) ([]byte, *Error) {
	if err := d.kind('"', field); err != nil {
		return nil, err
	}
	raw, escaped, err := d.str()
	if err != nil {
		if err.Field == "" {
			err.Field = field
		}
		return nil, err
	}
	if escaped {
		raw = unquote(raw)
	}
	return raw, nil
}

func (d *decoder) text(field string) (string, *Error) {
	raw, err := d.raw(field)
	return string(raw), err
}

func (d *decoder) token(field string) (string, *Error) {
	s, err := d.text(field)
	if err == nil && !Token(s) {
		err = Errorf(CodeBadID, field, "%s %.80q is not a token", field, s)
	}
	return s, err
}

func (d *decoder) opType(info *TypeInfo) (string, *Error) {
	raw, err := d.raw(fieldType)
	if err != nil {
		return "", err
	}
	t, known := d.types[string(raw)]
	if !known || t.Internal && !d.internal {
		return "", Errorf(CodeUnknownType, fieldType, "there is no operation type %q%s", clip(raw), guess.Name(string(raw), d.types.public()))
	}
	*info = t
	if t.Name == string(raw) { // the registry's string instead of a copy
		return t.Name, nil
	}
	return string(raw), nil
}

func (d *decoder) priority() (Priority, *Error) {
	var text string
	switch kindAt(d.peek()) {
	case "number":
		n, err := d.number()
		if err != nil {
			return 0, err
		}
		text = string(n)
	default:
		if err := d.kind('"', fieldPriority); err != nil {
			return 0, err
		}
		s, err := d.text(fieldPriority)
		if err != nil {
			return 0, err
		}
		text = s
	}
	p, err := ParsePriority(text)
	return p, AsError(err)
}

// integer reads a whole number from 0 to most.
func (d *decoder) integer(field string, most int64) (int64, *Error) {
	if err := d.kind('0', field); err != nil {
		return 0, err
	}
	text, err := d.number()
	if err != nil {
		return 0, err
	}
	if bytes.ContainsAny(text, ".eE") {
		return 0, Errorf(CodeWrongType, field, "%s %.40s is not a whole number without fraction and exponent", field, text)
	}
	n, e := strconv.ParseInt(string(text), 10, 64)
	if e != nil || n < 0 || n > most {
		return 0, Errorf(CodeBadValue, field, "%s %.40s is not between 0 and %d", field, text, most)
	}
	return n, nil
}

func (d *decoder) onConflict() (Conflict, *Error) {
	s, err := d.raw(fieldOnConflict)
	if err != nil {
		return "", err
	}
	for _, c := range [...]Conflict{OnConflictReject, OnConflictQueue, OnConflictRetry} {
		if string(s) == string(c) {
			return c, nil
		}
	}
	return "", Errorf(CodeBadValue, fieldOnConflict, "on_conflict %q is neither reject, queue nor retry", clip(s))
}

func (d *decoder) deadline() (*Deadline, *Error) {
	s, err := d.text(fieldDeadline)
	if err != nil {
		return nil, err
	}
	v, err := parseDeadline(s)
	if err != nil {
		return nil, err
	}
	return &v, nil
}

// parseDeadline reads an RFC 3339 instant or a positive duration.
func parseDeadline(s string) (Deadline, *Error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		// In UTC the year may leave the four digits that RFC 3339 has.
		if t = t.UTC(); t.Year() >= 0 && t.Year() <= 9999 {
			return Deadline{At: t}, nil
		}
	} else if a, err := time.ParseDuration(s); err == nil && a > 0 {
		return Deadline{After: a}, nil
	}
	return Deadline{}, Errorf(CodeBadValue, fieldDeadline, "deadline %.40q is neither an RFC 3339 instant nor a positive duration", s)
}

// params keeps an object as compact JSON in memory of its own.
func (d *decoder) params() (json.RawMessage, *Error) {
	if err := d.kind('{', fieldParams); err != nil {
		return nil, err
	}
	start, blanks := d.i, d.blanks
	d.blanks = false
	if err := d.value(1); err != nil {
		return nil, err.under(fieldParams)
	}
	spaced := d.blanks
	d.blanks = blanks
	return compact(d.b[start:d.i], spaced), nil
}

// compact copies valid JSON without its blanks.
func compact(raw []byte, spaced bool) json.RawMessage {
	out := make([]byte, 0, len(raw))
	if !spaced {
		return append(out, raw...)
	}
	inside := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inside && c == '\\':
			out = append(out, c)
			i++
		case c == '"':
			inside = !inside
		case !inside && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		out = append(out, raw[i])
	}
	return out
}

// createdAt keeps what the client says about its clock, unread: a string or a
// number.
func (d *decoder) createdAt() (json.RawMessage, *Error) {
	start := d.i
	if kindAt(d.peek()) != "number" {
		if err := d.kind('"', fieldCreatedAt); err != nil {
			return nil, err
		}
	}
	if err := d.value(1); err != nil {
		return nil, err.under(fieldCreatedAt)
	}
	return compact(d.b[start:d.i], false), nil
}

func (d *decoder) labels() (map[string]string, *Error) {
	if err := d.kind('{', fieldLabels); err != nil {
		return nil, err
	}
	m := map[string]string{}
	d.i++
	d.space()
	for more := d.peek() != '}'; more; {
		k, err := d.key()
		if err != nil {
			return nil, err.under(fieldLabels)
		}
		path := fieldLabels + "." + clip(k)
		if _, repeated := m[string(k)]; repeated {
			return nil, Errorf(CodeDuplicateKey, path, "the label %q appears twice", clip(k))
		}
		if len(m) == MaxLabels {
			return nil, Errorf(CodeBadValue, fieldLabels, "there are more than %d labels", MaxLabels)
		}
		if m[string(k)], err = d.text(path); err != nil {
			return nil, err
		}
		d.space()
		switch d.peek() {
		case ',':
			d.i++
			d.space()
		case '}':
			more = false
		default:
			return nil, d.syntax("a comma or the end of the labels")
		}
	}
	d.i++
	if len(m) == 0 {
		return nil, nil
	}
	return m, nil
}
