package op

import (
	"unicode/utf16"
	"unicode/utf8"
)

// str passes a string and returns what stands between its quotes, and whether
// that has escapes.
func (s *scanner) str() (raw []byte, escaped bool, err *Error) {
	s.i++
	start, saved := s.i, 0 // saved: bytes that the escapes have over what they stand for
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			raw = s.b[start:s.i]
			if n := len(raw) - saved; n > MaxString {
				return nil, false, Errorf(CodeStringTooLong, "", "the string at byte %d has %d bytes, the limit is %d", start-1, n, MaxString)
			}
			s.i++
			return raw, escaped, nil
		case c == '\\':
			before := s.i
			size, err := s.escape()
			if err != nil {
				return nil, false, err
			}
			saved += s.i - before - size
			escaped = true
		case c < ' ':
			return nil, false, s.syntax("an escape instead of a control character")
		default:
			s.i++
		}
	}
	return nil, false, s.syntax("the end of a string")
}

// escape passes one escape, or the two of a surrogate pair, and returns how
// many bytes of UTF-8 it stands for.
func (s *scanner) escape() (size int, err *Error) {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return 1, nil
	case 'u':
	default:
		return 0, s.syntax("an escape")
	}
	r, ok := hex4(s.b[s.i+1:])
	if !ok {
		return 0, s.syntax("four hexadecimal digits")
	}
	if utf16.IsSurrogate(r) {
		low, ok := rune(0), false
		if rest := s.b[s.i+5:]; len(rest) > 1 && rest[0] == '\\' && rest[1] == 'u' {
			low, ok = hex4(rest[2:])
		}
		if !ok || utf16.DecodeRune(r, low) == utf8.RuneError {
			return 0, Errorf(CodeBadUTF8, "", "the escape at byte %d is half of a surrogate pair, which UTF-8 cannot hold", s.i-1)
		}
		s.i += 11
		return 4, nil
	}
	s.i += 5
	return utf8.RuneLen(r), nil
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape reads the \u escape, or the pair of them, that the scanner passed; b
// starts at its u. n counts the bytes from there.
func unescape(b []byte) (r rune, n int) {
	r, _ = hex4(b[1:])
	if utf16.IsSurrogate(r) {
		low, _ := hex4(b[7:])
		return utf16.DecodeRune(r, low), 11
	}
	return r, 5
}

// unquote resolves the escapes of a string that the scanner passed.
func unquote(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, n := unescape(raw[i:])
			out = utf8.AppendRune(out, r)
			i += n - 1
		default:
			out = append(out, raw[i])
		}
	}
	return out
}
