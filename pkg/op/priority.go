package op

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Priority ranks operations on one target: 1 (lowest) to 10 (highest). Zero
// means "not given" and becomes the type's default.
type Priority int

// The named priorities of contract §2.
const (
	Background Priority = 1
	Low        Priority = 2
	Normal     Priority = 5
	High       Priority = 8
	Critical   Priority = 10
)

// String returns the name of a named priority and the number of any other.
func (p Priority) String() string {
	switch p {
	case Background:
		return "BACKGROUND"
	case Low:
		return "LOW"
	case Normal:
		return "NORMAL"
	case High:
		return "HIGH"
	case Critical:
		return "CRITICAL"
	}
	return strconv.Itoa(int(p))
}

// Valid reports whether p lies in 1..10.
func (p Priority) Valid() bool { return p >= Background && p <= Critical }

// ParsePriority reads a name in any case or a number 1..10. The error is an
// [*Error] with code [CodeBadPriority].
func ParsePriority(s string) (Priority, error) {
	switch strings.ToUpper(s) {
	case "BACKGROUND":
		return Background, nil
	case "LOW":
		return Low, nil
	case "NORMAL":
		return Normal, nil
	case "HIGH":
		return High, nil
	case "CRITICAL":
		return Critical, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || !Priority(n).Valid() {
		return 0, Errorf(CodeBadPriority, "priority", "priority %.40q is neither a name nor a number from 1 to 10", s)
	}
	return Priority(n), nil
}

// UnmarshalJSON accepts a number 1..10 or a name in any case.
func (p *Priority) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	v, err := ParsePriority(s)
	if err != nil {
		return err
	}
	*p = v
	return nil
}
