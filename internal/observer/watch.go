package observer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"sort"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Filter selects lines. The zero value selects all.
type Filter struct {
	Events []string    // patterns of event names, such as "operation.*"; none: all
	Target string      // "": all
	Reason []op.Reason // none: all
	Loud   bool        // leave out everyday life, see [Line.Quiet]
}

// Match reports whether f selects l.
func (f *Filter) Match(l *Line) bool {
	named := func(pattern string) bool {
		ok, err := path.Match(pattern, string(l.Event))
		return ok && err == nil
	}
	return (len(f.Events) == 0 || slices.ContainsFunc(f.Events, named)) &&
		(f.Target == "" || f.Target == l.Target) &&
		(len(f.Reason) == 0 || slices.Contains(f.Reason, l.Reason)) &&
		(!f.Loud || !l.Quiet)
}

// WatchQuery says which lines to tell and from where on. With neither FromSeq nor
// Since, a watch begins with what happens after the call.
type WatchQuery struct {
	Filter
	FromSeq uint64    // a journal sequence; 1 is the beginning
	Since   time.Time // an instant of the journal
}

// Watch tells what happens, read from the journal, until ctx ends, which ends the
// iteration without an error. An error is the last element.
func Watch(ctx context.Context, b *bus.Bus, q WatchQuery) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		after, err := begin(ctx, b, &q)
		if err != nil {
			yield(Line{}, err)
			return
		}
		for e, err := range b.JournalFollow(ctx, after) {
			if err != nil {
				yield(Line{}, err)
				return
			}
			s, err := decode(&e)
			if err != nil {
				yield(Line{}, err)
				return
			}
			for _, l := range Lines(e.Seq, s) {
				if !l.At.Before(q.Since) && q.Match(&l) && !yield(l, nil) {
					return
				}
			}
		}
	}
}

// begin returns the sequence after which a watch reads.
func begin(ctx context.Context, b *bus.Bus, q *WatchQuery) (uint64, error) {
	if q.FromSeq > 0 {
		return q.FromSeq - 1, nil
	}
	first, last, err := b.JournalBounds(ctx)
	if err != nil || q.Since.IsZero() || last == 0 {
		return last, err
	}
	// The first entry that the server stored at Since or later. A step is stored
	// after its instant, so nothing is missed. Removed entries are before it.
	n := sort.Search(int(last-first)+1, func(i int) bool {
		if err != nil {
			return true
		}
		e, miss := b.JournalGet(ctx, first+uint64(i))
		if miss != nil {
			if !errors.Is(miss, bus.ErrNotFound) {
				err = miss
			}
			return false
		}
		return !e.Time.Before(q.Since)
	})
	return first + uint64(n) - 1, err
}

// decode reads the step of an entry. It refuses a schema that it does not know.
func decode(e *bus.Entry) (*arbiter.Step, error) {
	s, err := parseStep(e.Data)
	if err != nil {
		return nil, fmt.Errorf("observer: journal entry %d: %w", e.Seq, err)
	}
	return s, nil
}
