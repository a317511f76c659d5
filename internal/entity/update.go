package entity

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// maxDigits bounds a whole number, so that increments cannot grow one for ever.
const maxDigits = 64

// update sets, increments and appends on several fields in one change.
func (c *computation) update() *op.Failure {
	p, err := readUpdate(c.o)
	if err != nil {
		return badParams(err)
	}
	set := make(map[string]json.RawMessage, len(p.set)+len(p.increment)+len(p.appends))
	maps.Copy(set, p.set)
	for _, name := range slices.Sorted(maps.Keys(p.increment)) {
		old, _ := c.field(name)
		sum, f := add(name, old, p.increment[name])
		if f != nil {
			return f
		}
		set[name] = sum
	}
	for _, name := range slices.Sorted(maps.Keys(p.appends)) {
		old, _ := c.field(name)
		list, f := appended(name, old, p.appends[name])
		if f != nil {
			return f
		}
		set[name] = list
	}
	c.change.Kind, c.change.Version, c.change.Set = Versioned, true, set
	c.change.Note = "Updated " + strings.Join(slices.Sorted(maps.Keys(set)), ", ")
	return nil
}

// add returns old + by. A missing or null field counts from 0. Whole numbers are
// added exactly, whatever their size; anything else as a 64 bit float.
func add(name string, old, by json.RawMessage) (json.RawMessage, *op.Failure) {
	switch kindOf(old) {
	case "number":
	case "null", "value":
		old = json.RawMessage("0")
	default:
		return nil, terminal(FailWrongType, "%s is a JSON %s and cannot be incremented", name, kindOf(old))
	}
	if whole(old) && whole(by) {
		return addWhole(name, old, by)
	}
	var x, y float64
	if json.Unmarshal(old, &x) != nil || json.Unmarshal(by, &y) != nil || math.IsInf(x+y, 0) {
		return nil, terminal(FailOutOfRange, "%s + %s is beyond a 64 bit float", cut(string(old), 40), cut(string(by), 40))
	}
	sum, err := json.Marshal(x + y)
	if err != nil {
		return nil, terminal(FailOutOfRange, "%s + %s: %v", cut(string(old), 40), cut(string(by), 40), err)
	}
	return sum, nil
}

// whole reports whether a number is written without fraction and exponent.
func whole(raw json.RawMessage) bool { return !bytes.ContainsAny(raw, ".eE") }

func addWhole(name string, old, by json.RawMessage) (json.RawMessage, *op.Failure) {
	sum, b := new(big.Int), new(big.Int)
	if len(old) <= maxDigits && len(by) <= maxDigits {
		sum.SetString(string(bytes.TrimSpace(old)), 10)
		b.SetString(string(bytes.TrimSpace(by)), 10)
		if text := sum.Add(sum, b).String(); len(text) <= maxDigits {
			return json.RawMessage(text), nil
		}
	}
	return nil, terminal(FailOutOfRange, "%s would have more than %d digits", name, maxDigits)
}

// appended returns the array old with one more element. A missing or null field
// becomes a new array.
func appended(name string, old, value json.RawMessage) (json.RawMessage, *op.Failure) {
	switch kindOf(old) {
	case "array":
	case "null", "value":
		old = json.RawMessage("[]")
	default:
		return nil, terminal(FailWrongType, "%s is a JSON %s and cannot be appended to", name, kindOf(old))
	}
	head := bytes.TrimSuffix(bytes.TrimSpace(old), []byte("]"))
	out := make(json.RawMessage, 0, len(head)+len(value)+2)
	out = append(out, head...)
	if len(bytes.TrimSpace(head)) > 1 {
		out = append(out, ',')
	}
	return append(append(out, value...), ']'), nil
}
