package verify

import (
	"context"
	"errors"
)

// merge walks along several copies at once.
type merge struct {
	stream string
	found  []Divergence
	open   map[string]int // index of the range under way, by node and kind
	last   map[string]int // and of the last one
}

func (m *merge) run(ctx context.Context, all []*copyReader) error {
	m.open, m.last = map[string]int{}, map[string]int{}
	for {
		var seq uint64
		var live []*copyReader
		behind := false
		for _, r := range all {
			if r.copy.Unread != "" {
				continue
			}
			if err := r.fill(ctx); err != nil {
				if ctx.Err() != nil {
					return errors.Join(errors.New("cut off"), ctx.Err())
				}
				r.copy.Unread = err.Error()
				continue
			}
			live = append(live, r)
			x, ok := r.head()
			if ok && (seq == 0 || x.seq < seq) {
				seq = x.seq
			}
			behind = behind || !ok && !r.done
		}
		switch {
		case seq == 0 && !behind: // every copy is at its end
			return nil
		case !behind:
			m.compare(seq, live)
		}
	}
}

// compare looks at one sequence in every copy and moves on behind it.
func (m *merge) compare(seq uint64, live []*copyReader) {
	votes := map[digest]int{}
	has := make([]digest, len(live)) // zero: the copy has nothing there
	for i, r := range live {
		if x, ok := r.head(); ok && x.seq == seq {
			has[i] = x.digest
			r.next()
		}
		votes[has[i]]++
	}
	if len(votes) == 1 {
		clear(m.open) // a range ends where the copies agree again
		return
	}
	// The majority is right. Without one a message is more than no message.
	right, most, tied := digest{}, 0, false
	for i := range has {
		switch n := votes[has[i]]; {
		case n > most:
			right, most, tied = has[i], n, false
		case n == most && has[i] != right:
			tied = true
			if right == (digest{}) {
				right = has[i]
			}
		}
	}
	for i, r := range live {
		if has[i] != right {
			m.note(r.copy.Node, kindOf(has[i], right), seq, tied)
		}
	}
}

func kindOf(has, right digest) string {
	switch (digest{}) {
	case has:
		return CopyMissing
	case right:
		return CopySurplus
	}
	return CopyDifferent
}

// note adds a sequence to the range that is under way, or begins one. Where there
// are too many, the last range of its kind grows instead.
func (m *merge) note(node, kind string, seq uint64, tied bool) {
	k := node + " " + kind
	i, ok := m.open[k]
	if before, had := m.last[k]; !ok && had && len(m.found) >= keptDivergences {
		i, ok = before, true
	}
	if !ok || m.found[i].Disputed != tied && len(m.found) < keptDivergences {
		i = len(m.found)
		m.found = append(m.found, Divergence{Stream: m.stream, Node: node, Kind: kind, First: seq, Disputed: tied})
		m.open[k], m.last[k] = i, i
	}
	m.found[i].Last = seq
	m.found[i].Messages++
}
