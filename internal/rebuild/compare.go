package rebuild

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Kind says how a view differs from what the journal leads to.
type Kind string

// The kinds.
const (
	Missing   Kind = "missing"   // the view has nothing
	Different Kind = "different" // it has something else
	Surplus   Kind = "surplus"   // the journal does not lead to it; it is left alone
)

// Difference is one key of a view that does not hold what it should.
type Difference struct {
	View View   `json:"view"`
	Key  string `json:"key"`
	Kind Kind   `json:"kind"`
	// Fields are the members that differ, of a value that can be read.
	Fields []string `json:"fields,omitempty"`
	// JournalSeq is the entry that the value should reflect.
	JournalSeq uint64 `json:"journal_seq,omitempty"`
	Written    bool   `json:"written"` // the view holds now what it should, or something newer

	rev uint64 // of the value that the view holds; 0: none
}

// compare tells whether a stored value is the wanted one. newer: it reflects a
// later entry of the journal than upTo, so it cannot be judged.
func compare(stored []byte, want value, upTo uint64) (fields []string, same, newer bool) {
	if bytes.Equal(stored, want.data) {
		return nil, true, false
	}
	var have map[string]json.RawMessage
	if json.Unmarshal(stored, &have) != nil {
		return nil, false, false
	}
	if reflects(have) > upTo {
		return nil, false, true
	}
	if want.data == nil {
		return nil, false, false
	}
	var wanted map[string]json.RawMessage
	if json.Unmarshal(want.data, &wanted) != nil {
		return nil, false, false
	}
	all := maps.Clone(have)
	maps.Copy(all, wanted)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !equal(have[name], wanted[name]) {
			fields = append(fields, name)
		}
	}
	return fields, len(fields) == 0, false
}

// reflects is the journal sequence that a value says it reflects. That of a dead
// letter stands in its record.
func reflects(v map[string]json.RawMessage) uint64 {
	var seq uint64
	if raw, ok := v["journal_seq"]; ok {
		_ = json.Unmarshal(raw, &seq) // what is no number reflects nothing
		return seq
	}
	var inner map[string]json.RawMessage
	if json.Unmarshal(v["record"], &inner) == nil && inner != nil {
		return reflects(inner)
	}
	return 0
}

// equal compares two values as JSON: whoever has written one may have other
// blanks.
func equal(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y bytes.Buffer
	return a != nil && b != nil && json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
