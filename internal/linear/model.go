package linear

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// Step is the register: what becomes of an entity by a call, and whether the call
// may have been answered as it was. An operation of which nobody knows whether it
// was executed is executed: one that was not finds its place after everything
// else, where nobody sees it.
func Step(v View, c *Call) (after View, possible bool) {
	switch c.Kind {
	case Read:
		return v, c.Seen == v
	case Create, Update, Modify, Delete:
	default:
		return v, false
	}
	switch c.Verdict {
	case Lost:
		return v, true
	case Exists:
		return v, c.Kind == Create && v.Alive && v.fits(c)
	case Missing:
		return v, c.Kind != Create && !v.Alive
	case Stale:
		return v, (v.Alive || c.Kind == Create) && !v.fits(c) && c.Seen.Version == v.Version
	case Unknown, Applied:
	}
	after, done := v.apply(c)
	if c.Verdict == Unknown {
		return after, true
	}
	return after, done && c.Seen.Version == after.Version && c.Seen.Revision == after.Revision
}

// fits reports whether the entity is at the version that an operation expects. To
// expect 0 is to expect that there is nothing.
func (v *View) fits(c *Call) bool {
	return c.Expected == None || c.Expected >= 0 && uint64(c.Expected) == v.Version || c.Expected == 0 && !v.Alive
}

// apply executes an operation (contract §4): every effect counts one revision up,
// all but that of modify_field one version.
func (v View) apply(c *Call) (after View, done bool) {
	if v.Alive == (c.Kind == Create) || !v.fits(c) {
		return v, false
	}
	v.Revision++
	if c.Kind != Modify {
		v.Version++
	}
	v.Value = c.OpID
	switch c.Kind {
	case Create:
		v.Alive, v.Count = true, 0
	case Update:
		v.Count++
	case Delete:
		v.Alive, v.Count, v.Value = false, 0, ""
	case Modify, Read:
	}
	return v, true
}

// Disagreement is an id under which two clients were told different outcomes.
type Disagreement struct {
	OpID string
	A, B Call
}

// Merge makes one call of all the calls with the same operation id, since
// submitting an id again is the same submission (contract §2): its effect happens
// at most once, no earlier than the first of them began and no later than the
// first answer to any of them. The order of the rest can be chosen freely, so that
// nothing is lost by leaving it out. Calls of one id that were told different
// outcomes are returned besides.
//
// Reads without an answer say nothing and are left out.
func (h History) Merge() (merged History, bad []Disagreement) {
	at := map[string]int{}
	for i := range h {
		c := h[i]
		if c.Kind == Read {
			if c.End != 0 {
				merged = append(merged, c)
			}
			continue
		}
		if c.Verdict == Unknown {
			c.End = 0
		}
		n, again := at[c.OpID]
		if !again {
			at[c.OpID] = len(merged)
			merged = append(merged, c)
			continue
		}
		m := &merged[n]
		if c.Verdict != Unknown && m.Verdict != Unknown && (c.Verdict != m.Verdict || c.Seen != m.Seen) {
			bad = append(bad, Disagreement{c.OpID, *m, c})
		}
		m.Begin = min(m.Begin, c.Begin)
		switch {
		case m.Verdict == Unknown:
			m.Verdict, m.Seen, m.End = c.Verdict, c.Seen, c.End
		case c.Verdict != Unknown:
			m.End = min(m.End, c.End)
		}
	}
	return merged, bad
}

// byEntity parts a history, since entities do not know of each other here.
func (h History) byEntity() map[string]History {
	parts := map[string]History{}
	for i := range h {
		parts[h[i].Entity] = append(parts[h[i].Entity], h[i])
	}
	for _, p := range parts {
		slices.SortFunc(p, func(a, b Call) int { return cmp.Compare(a.Begin, b.Begin) })
	}
	return parts
}

// operations are the calls of one entity for the checker. What never ended has an
// end after everything else.
func (h History) operations() []porcupine.Operation {
	ops := make([]porcupine.Operation, len(h))
	for i := range h {
		end := int64(h[i].End)
		if h[i].End == 0 {
			end = math.MaxInt64
		}
		ops[i] = porcupine.Operation{ClientId: h[i].Client, Input: &h[i], Call: int64(h[i].Begin), Return: end}
	}
	return ops
}

// model is [Step] for the checker, for the calls of one entity.
func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return View{} },
		Step: func(state, input, _ any) (bool, any) {
			after, ok := Step(state.(View), input.(*Call))
			return ok, after
		},
		Hash:              func(state any) uint64 { return state.(View).Revision },
		DescribeOperation: func(input, _ any) string { return input.(*Call).String() },
		DescribeState:     func(state any) string { return state.(View).String() },
	}
}

// String is short enough for a picture.
func (v View) String() string {
	switch {
	case v.Revision == 0:
		return "nothing"
	case !v.Alive:
		return fmt.Sprintf("tombstone v%d r%d", v.Version, v.Revision)
	}
	return fmt.Sprintf("v%d r%d n=%d %s", v.Version, v.Revision, v.Count, v.Value)
}

// String is short enough for a picture.
func (c *Call) String() string {
	if c.Kind == Read {
		return "read: " + c.Seen.String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", c.Kind, c.OpID)
	if c.Expected != None {
		fmt.Fprintf(&b, " if v%d", c.Expected)
	}
	fmt.Fprintf(&b, ": %s", c.Verdict)
	switch c.Verdict {
	case Applied:
		fmt.Fprintf(&b, " v%d r%d", c.Seen.Version, c.Seen.Revision)
	case Stale:
		fmt.Fprintf(&b, ", it is v%d", c.Seen.Version)
	case Unknown, Exists, Missing, Lost:
	}
	return b.String()
}
