package op

import (
	"fmt"
	"unicode/utf8"
)

// scanner reads JSON strictly in one pass: grammar, nesting, length of strings
// and repeated keys are checked while it moves. The bytes are known to be valid
// UTF-8. encoding/json cannot tell a repeated key, folds the case of names and
// is several times slower.
type scanner struct {
	b      []byte
	i      int
	blanks bool     // white space was passed since it was last cleared
	keys   [][]byte // the keys of the objects that are open, outermost first
}

// at puts the index of an array's element before the field.
func (e *Error) at(i int) *Error { return e.under(fmt.Sprintf("[%d]", i)) }

// under puts name before the field, so that nested errors name their path.
func (e *Error) under(name string) *Error {
	switch {
	case e.Field == "":
		e.Field = name
	case e.Field[0] == '[':
		e.Field = name + e.Field
	default:
		e.Field = name + "." + e.Field
	}
	return e
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
			s.blanks = true
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end (which no JSON has).
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) syntax(want string) *Error {
	if s.i >= len(s.b) {
		return Errorf(CodeBadJSON, "", "the body ends at byte %d, where %s was expected", s.i, want)
	}
	r, _ := utf8.DecodeRune(s.b[s.i:])
	return Errorf(CodeBadJSON, "", "byte %d is %q, where %s was expected", s.i, r, want)
}

// end checks that nothing but blanks follows.
func (s *scanner) end() *Error {
	s.space()
	if s.i < len(s.b) {
		return s.syntax("the end of the body")
	}
	return nil
}

// kindAt names the JSON type that starts with c, "" when none does.
func kindAt(c byte) string {
	switch c {
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
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return "number"
	}
	return ""
}

// kind checks that a value of the type that want starts comes next.
func (s *scanner) kind(want byte, field string) *Error {
	c := s.peek()
	got, wanted := kindAt(c), kindAt(want)
	switch {
	case got == wanted:
		return nil
	case got == "":
		return s.syntax("a value")
	case got == "null" && field != "":
		return Errorf(CodeWrongType, field, "%s is null instead of a JSON %s; leave the field out where it has no value", field, wanted)
	case field == "":
		return Errorf(CodeWrongType, "", "a JSON %s stands where an operation, a JSON %s, was expected", got, wanted)
	}
	return Errorf(CodeWrongType, field, "%s is a JSON %s instead of a %s", field, got, wanted)
}

// value passes one value of any type.
func (s *scanner) value(depth int) *Error {
	switch c := s.peek(); c {
	case '{':
		return s.object(depth + 1)
	case '[':
		return s.list(depth + 1)
	case '"':
		_, _, err := s.str()
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		_, err := s.number()
		return err
	}
}

func (s *scanner) object(depth int) *Error {
	if depth > MaxDepth {
		return Errorf(CodeTooDeep, "", "byte %d opens level %d, the limit is %d", s.i, depth, MaxDepth)
	}
	s.i++
	s.space()
	if s.peek() == '}' {
		s.i++
		return nil
	}
	base := len(s.keys)
	var many map[string]bool
	for {
		k, err := s.key()
		if err != nil {
			return err
		}
		if many, err = s.unique(base, many, k); err != nil {
			return err
		}
		if err = s.value(depth); err != nil {
			return err.under(clip(k))
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case '}':
			s.i++
			s.keys = s.keys[:base]
			return nil
		default:
			return s.syntax("a comma or the end of the object")
		}
	}
}

// unique remembers key k of the object whose keys start at base and refuses the
// second of its kind. A few keys are compared one by one, many through a map.
func (s *scanner) unique(base int, many map[string]bool, k []byte) (map[string]bool, *Error) {
	const few = 16
	repeated := false
	if many != nil {
		repeated = many[string(k)]
		many[string(k)] = true
	} else {
		for _, seen := range s.keys[base:] {
			repeated = repeated || string(seen) == string(k)
		}
		s.keys = append(s.keys, k)
		if len(s.keys)-base > few {
			many = make(map[string]bool, 4*few)
			for _, seen := range s.keys[base:] {
				many[string(seen)] = true
			}
		}
	}
	if repeated {
		return many, Errorf(CodeDuplicateKey, clip(k), "the key %q appears twice in one object", clip(k))
	}
	return many, nil
}

// clip shortens a client's name for a message.
func clip(k []byte) string {
	const most = 64
	if len(k) <= most {
		return string(k)
	}
	n := most
	for n > 0 && !utf8.RuneStart(k[n]) {
		n--
	}
	return string(k[:n]) + "…"
}

func (s *scanner) list(depth int) *Error {
	if depth > MaxDepth {
		return Errorf(CodeTooDeep, "", "byte %d opens level %d, the limit is %d", s.i, depth, MaxDepth)
	}
	s.i++
	s.space()
	if s.peek() == ']' {
		s.i++
		return nil
	}
	for n := 0; ; n++ {
		if err := s.value(depth); err != nil {
			return err.at(n)
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case ']':
			s.i++
			return nil
		default:
			return s.syntax("a comma or the end of the array")
		}
	}
}

// key passes a key and its colon, up to the value.
func (s *scanner) key() ([]byte, *Error) {
	if s.peek() != '"' {
		return nil, s.syntax("a key in double quotes")
	}
	raw, escaped, err := s.str()
	if err != nil {
		return nil, err
	}
	if escaped {
		raw = unquote(raw)
	}
	s.space()
	if s.peek() != ':' {
		return nil, s.syntax("a colon")
	}
	s.i++
	s.space()
	return raw, nil
}

func (s *scanner) word(w string) *Error {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return s.syntax(w)
	}
	s.i += len(w)
	return nil
}

// number passes a number by the grammar of RFC 8259 and returns its text.
func (s *scanner) number() ([]byte, *Error) {
	start := s.i
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !s.digits() {
		return nil, s.syntax("a value")
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return nil, s.syntax("a digit")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return nil, s.syntax("a digit")
		}
	}
	return s.b[start:s.i], nil
}

func (s *scanner) digits() bool {
	start := s.i
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.i++
	}
	return s.i > start
}

// leap moves to the comma or bracket that ends an array's element without
// checking what it passes; the element is read by itself later. It reports
// whether there is such an end.
func (s *scanner) leap() bool {
	depth := 0
	for ; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '"':
			for s.i++; s.i < len(s.b) && s.b[s.i] != '"'; s.i++ {
				if s.b[s.i] == '\\' {
					s.i++
				}
			}
		case '{', '[':
			depth++
		case '}':
			depth--
		case ']':
			if depth == 0 {
				return true
			}
			depth--
		case ',':
			if depth == 0 {
				return true
			}
		}
	}
	return false
}

// Depth is how deeply objects and arrays are nested in a JSON value; of something
// else it is an upper bound for as far as it could be one. It takes no memory, so
// it can be asked before anything else is done with a foreign value.
func Depth(value []byte) (most int) {
	now, text := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}
