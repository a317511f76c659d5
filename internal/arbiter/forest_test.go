package arbiter_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// tree is one node of a forest.
type tree struct {
	id       string
	priority op.Priority
	parent   string
	where    string // here, elsewhere or nowhere
}

// forest draws up to a hundred and twenty operations: chains as long as a hundred,
// bushes, circles, and parents that are in other partitions or nowhere.
func forest(s source) []tree {
	n := 2 + s.draw("nodes", 30)
	long := s.draw("long", 4) == 0
	if long {
		n = 60 + s.draw("nodes", 60)
	}
	nodes := make([]tree, n)
	mostly := 1 + s.draw("priority", 10) // priorities that hardly differ, or do
	for i := range nodes {
		t := &nodes[i]
		t.id, t.priority, t.where = "n"+strconv.Itoa(i), op.Priority(1+s.draw("priority", mostly)), "here"
		switch kind := s.draw("kind", 12); {
		case kind == 0:
			t.where = "elsewhere"
		case kind == 1 && !long || kind == 2 && s.draw("gap", 20) == 0:
			t.where = "nowhere"
		}
		switch shape := s.draw("shape", 40); {
		case long && shape > 0 || shape > 20: // a chain
			t.parent = "n" + strconv.Itoa((i+1)%(n+1)) // the last one's parent is nowhere
		case shape > 4:
			t.parent = "n" + strconv.Itoa(s.draw("parent", n)) // also itself, or one below it
		}
	}
	if s.draw("circle", 6) == 0 {
		nodes[n-1].parent = "n" + strconv.Itoa(s.draw("closes at", n))
	}
	return nodes
}

// inherits is what a dumb reading of contract §3.3 says of a node: list all of its
// ancestors, cut the list, take the greatest. Its faults are for the test of it.
type inherits struct {
	depth    int
	farthest bool // of equals
	least    bool
	twice    bool // a circle is not seen
}

func (r inherits) of(nodes []tree, t tree) (op.Priority, op.Inheritance) {
	byID := map[string]tree{}
	for _, n := range nodes {
		if n.where != "nowhere" {
			byID[n.id] = n
		}
	}
	var line []string
	var found op.Inheritance
	for id := t.parent; id != "" && len(line) <= r.depth; id = byID[id].parent {
		if (id == t.id || slices.Contains(line, id)) && !r.twice {
			found.Cycle = true
			break
		}
		line = append(line, id)
	}
	if len(line) > r.depth {
		line, found.Truncated = line[:r.depth], true
	}
	best, at := t.priority, -1
	for i, id := range line {
		n, known := byID[id]
		if !known {
			found.UnknownParent, found.Truncated = id, false
			break
		}
		if n.priority > best || r.farthest && n.priority == best && at >= 0 || r.least && n.priority < best {
			best, at = n.priority, i
		}
	}
	if at >= 0 {
		found.Path = line[:at+1]
	}
	return best, found
}

// grown plants a forest and returns what the machine decided about each tree. The
// trees come in any order, in any steps, and the answers at any time.
func grown(t *testing.T, nodes []tree, s source) map[string]op.Contender {
	t.Helper()
	m := arbiter.New(2)
	p := arbiter.DefaultPolicy()
	p.MaxExecuting = 1000
	in := []arbiter.Input{{Policy: &p}}
	elsewhere := map[string]arbiter.Kin{}
	var order []tree
	for _, n := range nodes {
		switch n.where {
		case "here":
			order = slices.Insert(order, s.draw("place", len(order)+1), n)
		case "elsewhere":
			elsewhere[n.id] = arbiter.Kin{OpID: n.id, Priority: n.priority, Parent: n.parent}
		}
	}
	found, number, seq := map[string]op.Contender{}, uint64(0), uint64(0)
	var wants []string
	step := func(at time.Time) {
		number++
		st := arbiter.Step{ID: "s", Number: number, At: at, In: in}
		in = nil
		m.Step(&st)
		wants = append(wants, m.Wants()...)
		for _, e := range st.Out {
			if d := e.Decision; d != nil {
				found[d.Winner] = d.Contenders[0]
			}
		}
	}
	answer := func() {
		id := wants[0]
		wants = wants[1:]
		k, known := elsewhere[id]
		if !known {
			k = arbiter.Kin{OpID: id, Unknown: true, Upto: seq}
		}
		in = append(in, arbiter.Input{Kin: &k})
	}
	for _, n := range order {
		seq++
		o := operation(n.id, "t-"+n.id)
		o.Priority, o.Parent = n.priority, n.parent
		in = append(in, submitted(seq, o))
		if s.draw("step", 4) == 0 {
			step(epoch)
		}
		for len(wants) > 0 && s.draw("answer", 2) == 0 {
			answer()
		}
	}
	step(epoch)
	for len(wants) > 0 {
		for len(wants) > 0 {
			answer()
		}
		step(epoch)
	}
	for at, due := m.Next(); due && len(found) < len(order); at, due = m.Next() {
		step(at)
	}
	if len(found) != len(order) {
		t.Fatalf("%d of %d trees were decided about", len(found), len(order))
	}
	return found
}

// differs says about which trees a reading and the machine disagree.
func differs(r inherits, nodes []tree, found map[string]op.Contender) (what []string) {
	for _, n := range nodes {
		if n.where != "here" {
			continue
		}
		want, why := r.of(nodes, n)
		c := found[n.id]
		if c.Effective != want || inherited(c.Inheritance) != inherited(why) {
			what = append(what, fmt.Sprintf("%s: effective %d by %q, want %d by %q", n.id, c.Effective, inherited(c.Inheritance), want, inherited(why)))
		}
	}
	return what
}

var dumb = inherits{depth: 32}

// TestTenThousandForests compares effective priority and path of every operation
// in ten thousand random forests.
func TestTenThousandForests(t *testing.T) {
	forests := fewer(10_000)
	if testing.Short() {
		forests = fewer(1_000)
	}
	trees, inheriting, cycles, cut, unknown, longest := 0, 0, 0, 0, 0, 0
	for n := range forests {
		s := newSeeded(*seed, 7_000_000+uint64(n))
		nodes := forest(s)
		found := grown(t, nodes, s)
		if what := differs(dumb, nodes, found); what != nil {
			t.Fatalf("-seed %d, forest %d: %v", *seed, n, what)
		}
		for _, c := range found {
			trees++
			longest = max(longest, len(c.Path))
			for is, count := range map[bool]*int{len(c.Path) > 0: &inheriting, c.Cycle: &cycles, c.Truncated: &cut, c.UnknownParent != "": &unknown} {
				if is {
					*count++
				}
			}
		}
	}
	t.Logf("%d operations: %d inherit, the longest path has %d; %d in circles, %d too deep, %d with an unknown ancestor", trees, inheriting, longest, cycles, cut, unknown)
	if longest != 32 || min(inheriting, cycles, cut, unknown) < forests {
		t.Error("too little happened")
	}
}

// TestForestsSee shows that the test above can fail: each faulty reading disagrees
// with the machine somewhere.
func TestForestsSee(t *testing.T) {
	for name, r := range map[string]inherits{
		"one level less":           {depth: 31},
		"one level more":           {depth: 33},
		"the farthest of equals":   {depth: 32, farthest: true},
		"the least":                {depth: 32, least: true},
		"circles go on and on":     {depth: 32, twice: true},
		"nobody inherits anything": {},
	} {
		seen := 0
		for n := range 200 {
			s := newSeeded(*seed, 7_000_000+uint64(n))
			nodes := forest(s)
			seen += len(differs(r, nodes, grown(t, nodes, s)))
		}
		if seen == 0 {
			t.Errorf("%s: no difference", name)
		}
	}
}
