package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// copyOf is a copy that is written by hand: a letter is a message, a dash none, and
// the column is the sequence.
func copyOf(node, text string) *copyReader {
	r := &copyReader{node: node, done: true, copy: Copy{Node: node}, running: newDigest(), tell: func(uint64) {}, patience: time.Second}
	for i, c := range text {
		if c != '-' {
			r.items = append(r.items, item{uint64(i + 1), digest{byte(c)}})
		}
	}
	return r
}

// TestMerge compares copies that are written by hand.
func TestMerge(t *testing.T) {
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

// TestMergeWaits: a pull that brings nothing is no end. Copies whose servers all have
// nothing to say for a moment are asked again.
func TestMergeWaits(t *testing.T) {
	var all []*copyReader
	for i, text := range []string{"abc", "a-c", "abc"} {
		r := copyOf("n"+string(rune('0'+i)), text)
		later, asked := r.items, false
		r.items, r.done = nil, false
		r.pull = func(context.Context) error {
			if asked {
				r.items, r.done = later, true
			}
			asked = true
			return nil
		}
		all = append(all, r)
	}
	m := merge{stream: "S"}
	if err := m.run(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if len(m.found) != 1 || m.found[0].Node != "n1" || m.found[0].Kind != CopyMissing || all[0].copy.Messages != 3 {
		t.Errorf("read %+v, found %v", all[0].copy, m.found)
	}
}

// TestConfirmed: what differs is looked at twice, and a copy that cannot be read the
// second time is not said to be the same.
func TestConfirmed(t *testing.T) {
	missing := func(first, last uint64) []Divergence {
		return []Divergence{{Node: "n1", Kind: CopyMissing, First: first, Last: last}}
	}
	copies := func(unread string) StreamCopies {
		return StreamCopies{Copies: []Copy{{Node: "n0"}, {Node: "n1", Unread: unread}}}
	}
	for name, c := range map[string]struct {
		first, second []Divergence
		unread        string // in the second look
		want          []Divergence
		looks         []string
	}{
		"the same":                    {looks: []string{"1-9"}},
		"late, or removed meanwhile":  {first: missing(3, 5), looks: []string{"1-9", "3-5"}},
		"a part was late":             {first: missing(3, 5), second: missing(4, 4), want: missing(4, 4), looks: []string{"1-9", "3-5"}},
		"another range by then":       {first: missing(3, 5), second: missing(7, 7), looks: []string{"1-9", "3-5"}},
		"unreadable the second time":  {first: missing(3, 5), unread: "no answer", looks: []string{"1-9", "3-5"}},
		"two ranges, and one remains": {first: append(missing(3, 5), missing(8, 8)...), second: missing(8, 8), want: missing(8, 8), looks: []string{"1-9", "3-8"}},
	} {
		var looks []string
		all, found, err := confirmed(9, func(from, to uint64) (StreamCopies, []Divergence, error) {
			looks = append(looks, fmt.Sprintf("%d-%d", from, to))
			if len(looks) == 1 {
				return copies(""), slices.Clone(c.first), nil
			}
			return copies(c.unread), slices.Clone(c.second), nil
		})
		if err != nil || all.Copies[0].Unread != "" || all.Copies[1].Unread != c.unread {
			t.Errorf("%s: %+v, %v", name, all.Copies, err)
		}
		if d := cmp.Diff(c.want, found, cmpopts.EquateEmpty()) + cmp.Diff(c.looks, looks); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	gone := errors.New("gone")
	if _, _, err := confirmed(9, func(from, _ uint64) (StreamCopies, []Divergence, error) {
		if from > 1 {
			return StreamCopies{}, nil, gone
		}
		return copies(""), missing(3, 5), nil
	}); !errors.Is(err, gone) {
		t.Errorf("the second look failed with %v", err)
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
