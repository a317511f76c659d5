package audit_test

import (
	"fmt"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// family submits operations and decides the last one, alone on its target. The
// others wait with the same ancestors on targets of their own: an unknown root
// that nobody has looked for keeps all of them undecided but for the decision
// under test.
func family(list []op.Operation, c op.Contender, in ...arbiter.Input) *history {
	h := newHistory()
	h.busy = true
	h.step(0, nil)
	var out []arbiter.Effect
	var submits []arbiter.Input
	for i, o := range list {
		submits = append(submits, submit(uint64(i+1), o))
		out = append(out, accepted(o.ID))
	}
	last := list[len(list)-1]
	h.step(0, submits, out...)
	out = nil
	for i, o := range list[:len(list)-1] { // ended, and still ancestors
		c, e := cancel(uint64(len(list)+i+1), o.Target, o.ID), cancelled(o.ID, o.Target)
		c.Cancel.Alone, e.Cancelled.Cascade = true, false
		in, out = append(in, c), append(out, e)
	}
	c.OpID, c.Priority, c.Place, c.Verdict = last.ID, last.Priority, op.Place{Seq: uint64(len(list))}, op.VerdictWon
	out = append(out, decision("d1", last.Target, 0, 10, 10, op.RuleOnly, c), granted(last.ID, last.Target, 1, c.Effective, "d1", 10))
	h.step(10, in, out...)
	return h
}

// line is a chain of n operations, each the parent of the next; the first has
// priority HIGH, the others LOW.
func line(n int, top string) []op.Operation {
	var list []op.Operation
	for i := range n {
		o := operation(fmt.Sprint("o", i), fmt.Sprint("t", i), 2)
		if i == 0 {
			o.Priority, o.Parent = 8, top
		} else {
			o.Parent = fmt.Sprint("o", i-1)
		}
		list = append(list, o)
	}
	return list
}

// up is the path of the last of n operations in a line to the first.
func up(n int) []string {
	var path []string
	for i := n - 2; i >= 0; i-- {
		path = append(path, fmt.Sprint("o", i))
	}
	return path
}

func TestEffectivePriorityIsWalkedIndependently(t *testing.T) {
	inherits := func(p op.Priority, i op.Inheritance) op.Contender { return op.Contender{Effective: p, Inheritance: i} }
	unknown := arbiter.Input{Kin: &arbiter.Kin{OpID: "top", Unknown: true, Upto: 100}}
	for _, c := range []struct {
		name string
		list []op.Operation
		in   []arbiter.Input
		want op.Contender
	}{
		{"own", line(1, ""), nil, inherits(8, op.Inheritance{})},
		{"parent", line(2, ""), nil, inherits(8, op.Inheritance{Path: up(2)})},
		{"ancestor", line(5, ""), nil, inherits(8, op.Inheritance{Path: up(5)})},
		{"unknown ancestor", line(3, "top"), inputs(unknown), inherits(8, op.Inheritance{Path: up(3), UnknownParent: "top"})},
		{"cycle", line(3, "o2"), nil, inherits(8, op.Inheritance{Path: up(3), Cycle: true})},
		{"cycle above", line(4, "o1"), nil, inherits(8, op.Inheritance{Path: up(4), Cycle: true})},
		{"own parent", line(1, "o0"), nil, inherits(8, op.Inheritance{Cycle: true})},
		{"32 ancestors", line(33, ""), nil, inherits(8, op.Inheritance{Path: up(33)})},
		{"33 ancestors", line(34, ""), nil, inherits(2, op.Inheritance{Truncated: true})},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantOnly(t, family(c.list, c.want, c.in...).read(t, audit.Options{}).Finish(false))
			wrong := c.want
			wrong.Effective = 1 + wrong.Effective%10
			h := family(c.list, wrong, c.in...)
			wantOnly(t, h.read(t, audit.Options{}).Finish(false), audit.ResolutionEffective)
		})
	}
}
