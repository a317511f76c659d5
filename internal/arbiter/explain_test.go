package arbiter_test

import (
	"cmp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// rival is one operation of a contest about the door, and when it came.
type rival struct {
	op.Operation
	place op.Place
	at    time.Time
}

// contest is everything from which a decision follows.
type contest struct {
	policy arbiter.Policy
	kin    []arbiter.Kin
	rivals []rival
}

// anyContest draws two to ten operations with ancestors, which wait differently
// long for one decision.
func anyContest(s source) contest {
	c := contest{policy: arbiter.DefaultPolicy()}
	c.policy.StagingWindow = time.Second
	if s.draw("aging", 2) == 0 {
		c.policy.Aging = arbiter.Aging{Every: time.Duration(50+s.draw("every", 400)) * time.Millisecond, Step: 1 + s.draw("step", 2), Max: 1 + s.draw("max", 9)}
	}
	for i := range 4 {
		k := arbiter.Kin{OpID: "k" + strconv.Itoa(i), Priority: op.Priority(1 + s.draw("kin", 10))}
		if i > 0 && s.draw("grandparent", 2) == 0 {
			k.Parent = "k" + strconv.Itoa(i-1)
		}
		c.kin = append(c.kin, k)
	}
	at := epoch
	for i := range 2 + s.draw("rivals", 9) {
		o := operation("o"+strconv.Itoa(i), "door")
		o.Priority, o.OnConflict = op.Priority(1+s.draw("priority", 10)), conflicts[s.draw("on conflict", 3)]
		if s.draw("parent", 3) == 0 {
			o.Parent = "k" + strconv.Itoa(s.draw("which", 4))
		}
		c.rivals = append(c.rivals, rival{Operation: o, place: op.Place{Seq: uint64(10 * (i + 1))}, at: at})
		at = at.Add(time.Duration(s.draw("pause", 100)) * time.Millisecond)
	}
	return c
}

// decided lets a machine decide it.
func (c contest) decided(t *testing.T) *op.Decision {
	t.Helper()
	m := arbiter.New(0)
	in := []arbiter.Input{{Policy: &c.policy}}
	for i := range c.kin {
		in = append(in, arbiter.Input{Kin: &c.kin[i]})
	}
	for i, r := range c.rivals {
		in = append(in, arbiter.Input{Submit: &arbiter.Submit{Place: r.place, Operation: r.Operation}})
		m.Step(&arbiter.Step{ID: "s", Number: uint64(i + 1), At: r.at, In: in})
		in = nil
	}
	for n := range uint64(100) {
		at, ok := m.Next()
		if !ok {
			break
		}
		s := arbiter.Step{ID: "s", Number: 100 + n, At: at}
		m.Step(&s)
		for _, e := range s.Out {
			if e.Decision != nil {
				return e.Decision
			}
		}
	}
	t.Fatal("nothing was decided")
	return nil
}

// best says who wins and by which rule, by a naive reading: every operation with
// the greatest priority of its line and what its waiting is worth.
func (c contest) best(at time.Time) (winner string, rule op.Rule, total func(r rival) op.Priority) {
	parents := map[string]arbiter.Kin{}
	for _, k := range c.kin {
		parents[k.OpID] = k
	}
	total = func(r rival) op.Priority {
		p := r.Priority
		for id := r.Parent; id != ""; id = parents[id].Parent {
			p = max(p, parents[id].Priority)
		}
		if a := c.policy.Aging; a.Every > 0 {
			p += op.Priority(min(int(at.Sub(r.at)/a.Every)*a.Step, a.Max))
		}
		return min(p, op.Critical)
	}
	ranked := slices.SortedFunc(slices.Values(c.rivals), func(a, b rival) int {
		return cmp.Or(cmp.Compare(total(b), total(a)), cmp.Compare(a.place.Seq, b.place.Seq))
	})
	rule = op.RulePriority
	if total(ranked[0]) == total(ranked[1]) {
		rule = op.RuleOrder
	}
	return ranked[0].ID, rule, total
}

// with is the same contest in which one operation has another priority or, if it
// is given, stands before another place.
func (c contest) with(id string, p op.Priority, before *op.Place) contest {
	c.rivals = slices.Clone(c.rivals)
	for i := range c.rivals {
		if c.rivals[i].ID == id {
			if p > 0 {
				c.rivals[i].Priority = p
			}
			if before != nil {
				c.rivals[i].place = op.Place{Seq: before.Seq - 1}
			}
		}
	}
	return c
}

// TestARemedyIsTheSmallestThatHelps decides about a thousand losers once more, with
// the change that would have let each of them win, and with every smaller one.
func TestARemedyIsTheSmallestThatHelps(t *testing.T) {
	losers, earlier, aged, both := 0, 0, 0, 0
	for n := 0; losers < 1_000; n++ {
		c := anyContest(newSeeded(*seed, 9_000_000+uint64(n)))
		d := c.decided(t)
		winner, rule, total := c.best(d.At)
		if d.Winner != winner || d.Rule != rule {
			t.Fatalf("-seed %d, contest %d: %s wins by %s, want %s by %s", *seed, n, d.Winner, d.Rule, winner, rule)
		}
		for _, r := range c.rivals {
			if r.ID == d.Winner {
				if _, lost := arbiter.WouldHaveWon(d, r.ID); lost {
					t.Fatalf("-seed %d, contest %d: the winner would have won otherwise", *seed, n)
				}
				continue
			}
			i := slices.IndexFunc(d.Contenders, func(x op.Contender) bool { return x.OpID == r.ID })
			x := d.Contenders[i]
			want := op.LaterSubmission
			if total(r) < d.Contenders[0].Effective {
				want = op.LowerPriority
			}
			if x.Effective != total(r) || x.Reason != want {
				t.Fatalf("-seed %d, contest %d: %s lost with %d by %s, want %d by %s", *seed, n, r.ID, x.Effective, x.Reason, total(r), want)
			}
			losers++
			remedy, ok := arbiter.WouldHaveWon(d, r.ID)
			if !ok {
				t.Fatalf("-seed %d, contest %d: nothing would have helped %s", *seed, n, r.ID)
			}
			if got := c.with(r.ID, remedy.Priority, remedy.Before).decided(t); got.Winner != r.ID {
				t.Fatalf("-seed %d, contest %d: with %+v %s still loses to %s", *seed, n, remedy, r.ID, got.Winner)
			}
			// Nothing smaller helps: no lower priority, and no later place.
			least := r.Priority
			if remedy.Priority > 0 {
				for p := op.Background; p < remedy.Priority; p++ {
					if got := c.with(r.ID, p, remedy.Before).decided(t); got.Winner == r.ID {
						t.Fatalf("-seed %d, contest %d: %s would win with %d already, not only with %+v", *seed, n, r.ID, p, remedy)
					}
				}
				least = remedy.Priority
			}
			if remedy.Before != nil {
				earlier++
				for p := least; p <= op.Critical; p++ {
					if got := c.with(r.ID, p, nil).decided(t); got.Winner == r.ID {
						t.Fatalf("-seed %d, contest %d: %s need not have come earlier: %d is enough", *seed, n, r.ID, p)
					}
				}
				if remedy.Priority > 0 {
					both++
				}
			}
			if x.Boost > 0 {
				aged++
			}
		}
	}
	t.Logf("%d losers, %d had waited, %d would have had to come earlier, %d of them with another priority as well", losers, aged, earlier, both)
	if min(earlier, aged, both) < 50 {
		t.Error("too little happened")
	}
}

// TestRemedyOfNobody: who is not listed, and the winner, have none.
func TestRemedyOfNobody(t *testing.T) {
	d := &op.Decision{Winner: "a", Contenders: []op.Contender{{OpID: "a", Effective: op.Low}}}
	for _, id := range []string{"a", "b", ""} {
		if r, ok := arbiter.WouldHaveWon(d, id); ok {
			t.Errorf("%q: %+v", id, r)
		}
	}
}
