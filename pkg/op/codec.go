package op

import (
	"bytes"
	"unicode/utf8"
)

// Limits of a bulk, see [DecodeBulk]. A message is decided in one step, and what
// the step says about its operations (records, decisions, events) has to fit into
// one message of the journal: that is several times what came in. Every operation
// in a bulk still obeys [MaxBody] by itself.
const (
	MaxBulk     = 500       // operations of one bulk
	MaxBulkBody = 128 << 10 // bytes
)

// Decode reads a submission: one operation, or an array of 1 to [MaxArray]
// operations on one target, which is refused as a whole (contract §2). target
// is what the subject names, or "" where it names none.
//
// It is strict: whatever breaks a limit, repeats a key, names an unknown field
// or type, or has a value outside its range, is refused. Types marked Internal
// are unknown here. Defaults are filled in, except for the id: see [Normalize].
// Params and created_at are kept as compact JSON and share no memory with body.
//
// Every error is an [*Error]. The nesting limit counts from the operation, so
// that what is accepted alone is accepted in an array, too.
func Decode(body []byte, target string, types Types) ([]Operation, error) {
	return decode(body, target, types, false)
}

// DecodeInternal is [Decode] for what the system submits to itself: it knows
// the types marked Internal and accepts the ids that [Reserved] keeps free.
func DecodeInternal(body []byte, target string, types Types) ([]Operation, error) {
	return decode(body, target, types, true)
}

// DecodeBulk reads independent operations packed into one array, on any
// targets. Each one is accepted or refused by itself: both slices are as long
// as the array, and where errs[i] is not nil, ops[i] is to be ignored. The error
// is for a bulk that is refused as a whole, because it cannot be told apart into
// operations or is over a limit ([MaxBulk], [MaxBulkBody]); then both slices are
// nil.
func DecodeBulk(body []byte, types Types) (ops []Operation, errs []*Error, err error) {
	if len(body) > MaxBulkBody {
		return nil, nil, bulkTooLarge("the bulk has %d bytes, the limit is %d", len(body), MaxBulkBody)
	}
	parts, e := splitArray(body, MaxBulk)
	if e != nil {
		return nil, nil, e
	}
	ops, errs = make([]Operation, len(parts)), make([]*Error, len(parts))
	for i, part := range parts {
		errs[i] = decodePart(part, types, &ops[i])
	}
	return ops, errs, nil
}

// bulkTooLarge is about the bulk: the catalogue's hint is for one operation.
func bulkTooLarge(format string, args ...any) *Error {
	e := Errorf(CodeTooLarge, "", format, args...)
	e.Hint = "Send several smaller bulks; each is accepted or refused by itself."
	return e
}

// Normalize gives every operation without an id one from newID, in order.
func Normalize(ops []Operation, newID func() string) {
	for i := range ops {
		if ops[i].ID == "" {
			ops[i].ID = newID()
		}
	}
}

// decoder reads operations off a scanner.
type decoder struct {
	scanner
	target   string // the subject's, or ""
	types    Types
	internal bool
}

func decode(body []byte, target string, types Types, internal bool) ([]Operation, error) {
	if err := checkBody(body); err != nil {
		return nil, err
	}
	if target != "" && !Token(target) {
		return nil, Errorf(CodeBadID, fieldTarget, "the subject names the target %.80q, which is not an id", target)
	}
	d := decoder{scanner: scanner{b: body}, target: target, types: types, internal: internal}
	var ops []Operation
	var err *Error
	d.space()
	switch d.peek() {
	case '{':
		ops = make([]Operation, 1)
		err = d.operation(&ops[0])
	case '[':
		ops, err = d.array()
	default:
		err = d.syntax("one operation or an array of operations")
	}
	if err == nil {
		err = d.end()
	}
	if err != nil {
		return nil, err
	}
	return ops, nil
}

func decodePart(part []byte, types Types, o *Operation) *Error {
	if err := checkBody(part); err != nil {
		return err
	}
	d := decoder{scanner: scanner{b: part}, types: types}
	if err := d.kind('{', ""); err != nil {
		return err
	}
	if err := d.operation(o); err != nil {
		return err
	}
	return d.end()
}

// checkBody asks what can be asked of the bytes alone.
func checkBody(body []byte) *Error {
	if len(body) > MaxBody {
		return Errorf(CodeTooLarge, "", "the body has %d bytes, the limit is %d", len(body), MaxBody)
	}
	if !utf8.Valid(body) {
		return Errorf(CodeBadUTF8, "", "byte %d is not valid UTF-8", firstInvalid(body))
	}
	return nil
}

func firstInvalid(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// array reads an array of operations on one target.
func (d *decoder) array() ([]Operation, *Error) {
	var ops []Operation
	ids := map[string]int{}
	d.i++ // the bracket
	d.space()
	if d.peek() == ']' {
		return nil, Errorf(CodeBadArray, "", "the array is empty")
	}
	for i := 0; ; i++ {
		if i == MaxArray {
			return nil, Errorf(CodeBadArray, "", "the array has more than %d operations", MaxArray)
		}
		d.space()
		if err := d.kind('{', ""); err != nil {
			return nil, err.at(i)
		}
		ops = append(ops, Operation{})
		o := &ops[i]
		if err := d.operation(o); err != nil {
			return nil, err.at(i)
		}
		if o.Target != ops[0].Target {
			return nil, Errorf(CodeBadArray, fieldTarget, "operation %d is on %s, operation 0 on %s", i, o.Target, ops[0].Target).at(i)
		}
		if first, repeated := ids[o.ID]; repeated && o.ID != "" {
			return nil, Errorf(CodeBadArray, fieldID, "operations %d and %d have the same op_id %s", first, i, o.ID).at(i)
		}
		ids[o.ID] = i
		d.space()
		switch d.peek() {
		case ',':
			d.i++
		case ']':
			d.i++
			return ops, nil
		default:
			return nil, d.syntax("a comma or the end of the array")
		}
	}
}

// splitArray finds the elements of an array without reading them.
func splitArray(body []byte, most int) ([][]byte, *Error) {
	s := scanner{b: body}
	s.space()
	if s.peek() != '[' {
		return nil, s.syntax("an array of operations")
	}
	s.i++
	s.space()
	if s.peek() == ']' {
		return nil, Errorf(CodeBadArray, "", "the array is empty")
	}
	var parts [][]byte
	for {
		if len(parts) == most {
			return nil, bulkTooLarge("the bulk has more than %d operations", most)
		}
		s.space()
		start := s.i
		if !s.leap() || s.i == start {
			return nil, s.syntax("an operation")
		}
		parts = append(parts, bytes.TrimRight(s.b[start:s.i], " \t\r\n"))
		switch s.peek() {
		case ',':
			s.i++
		case ']':
			s.i++
			return parts, s.end()
		}
	}
}
