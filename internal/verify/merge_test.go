package verify

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMerge compares copies that are written by hand: a letter is a message, a dash
// none, and the column is the sequence.
func TestMerge(t *testing.T) {
	copyOf := func(node, text string) *copyReader {
		r := &copyReader{node: node, done: true, copy: Copy{Node: node}, running: newDigest(), tell: func(uint64) {}, patience: time.Second}
		for i, c := range text {
			if c != '-' {
				r.items = append(r.items, item{uint64(i + 1), digest{byte(c)}})
			}
		}
		return r
	}
	for _, c := range []struct {
		name   string
		copies []string
		want   []string
	}{
		{"equal", []string{"abcd", "abcd", "abcd"}, nil},
		{"all have lost the same", []string{"a--d", "a--d", "a--d"}, nil},
		{"one misses a range and one message", []string{"abcdef", "a--de-", "abcdef"}, []string{
			"S on n1: 2 messages missing in sequences 2 to 3", "S on n1: 1 messages missing in sequences 6 to 6",
		}},
		{"one has another message", []string{"abc", "abc", "axc"}, []string{"S on n2: 1 messages different in sequences 2 to 2"}},
		{"one has more", []string{"a-c", "abc", "a-c"}, []string{"S on n1: 1 messages surplus in sequences 2 to 2"}},
		{"one is empty", []string{"abc", "", "abc"}, []string{"S on n1: 3 messages missing in sequences 1 to 3"}},
		{"two misses of two servers", []string{"-bc", "ab-", "abc"}, []string{
			"S on n0: 1 messages missing in sequences 1 to 1", "S on n1: 1 messages missing in sequences 3 to 3",
		}},
		{"two copies, one misses", []string{"abc", "a-c"}, []string{
			"S on n1: 1 messages missing in sequences 2 to 2, and no majority says who is right",
		}},
		{"three say three things", []string{"a", "b", "-"}, []string{
			"S on n1: 1 messages different in sequences 1 to 1, and no majority says who is right",
			"S on n2: 1 messages missing in sequences 1 to 1, and no majority says who is right",
		}},
	} {
		var all []*copyReader
		for i, text := range c.copies {
			all = append(all, copyOf("n"+string(rune('0'+i)), text))
		}
		m := merge{stream: "S"}
		if err := m.run(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range m.found {
			got = append(got, m.found[i].String())
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// TestLasting: what only one look sees has passed.
func TestLasting(t *testing.T) {
	first := []Divergence{{Node: "n1", Kind: CopyMissing, First: 3, Last: 9}, {Node: "n2", Kind: CopyMissing, First: 1, Last: 1}}
	second := []Divergence{{Node: "n1", Kind: CopyMissing, First: 5, Last: 5}, {Node: "n2", Kind: CopySurplus, First: 1, Last: 1}, {Node: "n1", Kind: CopyMissing, First: 20, Last: 30}}
	if got := lasting(first, second); len(got) != 1 || got[0].First != 5 {
		t.Errorf("%+v", got)
	}
}
