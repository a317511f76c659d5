package linear_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hierarchy-bus/hierarchy/internal/linear"
)

// calls are a history in short: one call after the other, each of ten units,
// unless a test says otherwise.
func calls(all ...linear.Call) linear.History {
	for i := range all {
		c := &all[i]
		c.Entity, c.Client = "e", i
		if c.Begin == 0 {
			c.Begin = time.Duration(100*i + 1)
		}
		if c.End == 0 && c.Verdict != linear.Unknown {
			c.End = c.Begin + 10
		}
	}
	return all
}

func write(kind linear.Kind, id string, expected int64, v linear.Verdict, version, revision uint64) linear.Call {
	return linear.Call{Kind: kind, OpID: id, Expected: expected, Verdict: v, Seen: linear.View{Version: version, Revision: revision}}
}

func read(version, revision uint64, count int, value string) linear.Call {
	return linear.Call{Kind: linear.Read, Seen: linear.View{Alive: value != "", Version: version, Revision: revision, Count: count, Value: value}}
}

func during(c linear.Call, begin, end time.Duration) linear.Call {
	c.Begin, c.End = begin, end
	return c
}

const none = linear.None

// good is a run without anything wrong, for others to go wrong from.
func good() linear.History {
	return calls(
		read(0, 0, 0, ""),
		write(linear.Update, "u0", none, linear.Missing, 0, 0),
		write(linear.Create, "c1", 0, linear.Applied, 1, 1),
		write(linear.Create, "c2", none, linear.Exists, 0, 0),
		read(1, 1, 0, "c1"),
		write(linear.Update, "u1", 1, linear.Applied, 2, 2),
		write(linear.Update, "u2", 1, linear.Stale, 2, 0),
		write(linear.Modify, "m1", 2, linear.Applied, 2, 3),
		write(linear.Update, "u3", none, linear.Lost, 0, 0),
		read(2, 3, 1, "m1"),
		write(linear.Delete, "d1", 2, linear.Applied, 3, 4),
		read(3, 4, 0, ""),
		write(linear.Update, "u4", none, linear.Missing, 0, 0),
		write(linear.Create, "c3", 0, linear.Applied, 4, 5),
		write(linear.Update, "u5", none, linear.Unknown, 0, 0),
		read(4, 5, 0, "c3"), // u5 is still under way
		read(5, 6, 1, "u5"), // and now it is not
	)
}

// What no register with compare-and-set could have answered is found, whichever
// promise it breaks.
func TestWhatNoRegisterAnswersIsFound(t *testing.T) {
	change := func(i int, c linear.Call) linear.History {
		h := good()
		c.Begin, c.End, c.Entity = h[i].Begin, h[i].End, h[i].Entity
		h[i] = c
		return h
	}
	type row struct {
		name string
		h    linear.History
		bad  bool
	}
	for _, c := range []row{
		{"a good run", good(), false},
		{"a stale read", change(9, read(2, 2, 1, "u1")), true},
		{"a read from the future", change(4, read(2, 2, 1, "u1")), true},
		{"a read of what nobody wrote", change(9, read(2, 3, 1, "x")), true},
		{"a lost update", calls(write(linear.Create, "c1", 0, linear.Applied, 1, 1), write(linear.Update, "u1", 1, linear.Applied, 2, 2), read(1, 1, 0, "c1")), true},
		{"an effect of a loser", change(9, read(3, 4, 2, "u3")), true},
		{"an effect under a stale version", calls(write(linear.Create, "c1", 0, linear.Applied, 1, 1), write(linear.Update, "u1", 5, linear.Applied, 2, 2)), true},
		{"an effect under a stale version, and nothing is changed", calls(write(linear.Create, "c1", 0, linear.Applied, 1, 1), write(linear.Update, "u1", 5, linear.Applied, 1, 1)), true},
		{"stale at the right version", calls(write(linear.Create, "c1", 0, linear.Applied, 1, 1), write(linear.Update, "u1", 1, linear.Stale, 1, 0)), true},
		{"stale with a version that is not the current one", change(6, write(linear.Update, "u2", 1, linear.Stale, 3, 0)), true},
		{"a version without an effect on it", change(7, write(linear.Modify, "m1", 2, linear.Applied, 3, 3)), true},
		{"an effect that counts twice", change(9, read(3, 4, 2, "m1")), true},
		{"created twice", calls(write(linear.Create, "c1", none, linear.Applied, 1, 1), write(linear.Create, "c2", none, linear.Applied, 2, 2)), true},
		{"there, and then not", change(8, write(linear.Update, "u3", none, linear.Missing, 0, 0)), true},
		{"an unknown outcome that never happens", good()[:16], false},
		{"an unknown outcome that is there and then not", append(good(), calls(during(read(4, 5, 0, "c3"), 9001, 9002))...), true},
		{"an effect that counts two revisions", calls(write(linear.Create, "c1", 0, linear.Applied, 1, 2)), true},
		{"there, where nothing is", calls(write(linear.Create, "c1", none, linear.Exists, 0, 0)), true},
		{"there, at another version than the expected one", calls(write(linear.Create, "c1", 0, linear.Applied, 1, 1), write(linear.Create, "c2", 7, linear.Exists, 0, 0)), true},
		{"there, told to one that creates nothing", calls(write(linear.Create, "c1", 0, linear.Applied, 1, 1), write(linear.Update, "u1", none, linear.Exists, 0, 0)), true},
		{"nothing there, told to one that creates", calls(write(linear.Create, "c1", none, linear.Missing, 0, 0)), true},
		{"stale where nothing is", calls(write(linear.Update, "u1", 7, linear.Stale, 0, 0)), true},
		{"an unknown outcome whose client gave up long before", calls(write(linear.Create, "c1", 0, linear.Applied, 1, 1),
			during(write(linear.Update, "u1", none, linear.Unknown, 0, 0), 150, 160), read(1, 1, 0, "c1"), read(2, 2, 1, "u1")), false},
		{"one id, two versions", append(good(), calls(during(write(linear.Update, "u1", 1, linear.Applied, 3, 3), 9001, 9002))...), true},
		{"one id, two outcomes", append(good(), calls(during(write(linear.Update, "u1", 1, linear.Stale, 2, 0), 9001, 9002))...), true},
		{"an id again with its outcome", append(good(), calls(during(write(linear.Update, "u1", 1, linear.Applied, 2, 2), 9001, 9002))...), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := linear.Check(c.h, 10*time.Second, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if r.OK() == c.bad {
				t.Errorf("found to be %v: %s", r.OK(), r)
			}
		})
	}
}

// An id that is submitted again after an unknown outcome and then ends was applied
// somewhere between its first submission and its first answer.
func TestAnIDSubmittedAgainIsOneOperation(t *testing.T) {
	create := write(linear.Create, "c1", 0, linear.Applied, 1, 1)
	lost := during(write(linear.Update, "u1", none, linear.Unknown, 0, 0), 200, 0)
	again := during(write(linear.Update, "u1", none, linear.Applied, 2, 2), 500, 600)
	for name, h := range map[string]linear.History{
		"seen before it was sent again": calls(create, lost, during(read(2, 2, 1, "u1"), 300, 310), again),
		"seen after it was sent again":  calls(create, lost, during(read(1, 1, 0, "c1"), 300, 310), during(read(1, 1, 0, "c1"), 550, 560), again),
	} {
		if r, err := linear.Check(h, 10*time.Second, t.TempDir()); err != nil || !r.OK() || r.Repeated != 1 {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	twice := calls(create, lost, during(read(3, 3, 2, "u1"), 300, 310), again)
	if r, err := linear.Check(twice, 10*time.Second, t.TempDir()); err != nil || r.OK() {
		t.Errorf("two effects of one id: %v, %v", r, err)
	}
}

// Merging the calls of an id is the same as a register that remembers the ids that
// it has seen: for random histories, right and wrong ones, both judge alike.
func TestMergeIsARegisterThatRemembers(t *testing.T) {
	type state struct {
		v    linear.View
		done string // ids, each with blanks around it
	}
	naive := porcupine.Model{
		Init: func() any { return state{} },
		Step: func(s, in, _ any) (bool, any) {
			st, c := s.(state), in.(*linear.Call)
			if c.Kind == linear.Read {
				return c.Seen == st.v, st
			}
			if strings.Contains(st.done, " "+c.OpID+" ") {
				return true, st
			}
			v, ok := linear.Step(st.v, c)
			return ok, state{v, sorted(st.done + " " + c.OpID + " ")}
		},
	}
	rng := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // reproducible on purpose
	verdicts := map[bool]int{}
	for i := range 1000 {
		h := random(rng)
		r, err := linear.Check(h, time.Minute, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		ops := make([]porcupine.Operation, len(h))
		for i := range h {
			end := int64(h[i].End)
			if end == 0 {
				end = 1 << 62
			}
			ops[i] = porcupine.Operation{ClientId: i, Input: &h[i], Call: int64(h[i].Begin), Return: end}
		}
		want := porcupine.CheckOperations(naive, ops)
		if r.OK() != want {
			var b bytes.Buffer
			if err := h.Write(&b); err != nil {
				t.Fatal(err)
			}
			t.Fatalf("history %d: merged %v, remembered %v\n%s", i, r.OK(), want, b.String())
		}
		verdicts[want]++
	}
	t.Logf("%d linearizable, %d not", verdicts[true], verdicts[false])
	if verdicts[true] < 100 || verdicts[false] < 100 {
		t.Errorf("one-sided: %v", verdicts)
	}
}

func sorted(ids string) string {
	all := strings.Fields(ids)
	slices.Sort(all)
	return " " + strings.Join(all, "  ") + " "
}

// random is a short history with one outcome for each id: some truth, some noise.
func random(rng *rand.Rand) linear.History {
	outcomes := map[string]linear.Call{}
	var truth linear.View
	var h linear.History
	for i := range 3 + rng.IntN(6) {
		c := linear.Call{Client: i, Entity: "e", Begin: time.Duration(1 + rng.IntN(60)), Expected: none}
		c.End = c.Begin + time.Duration(1+rng.IntN(30))
		if rng.IntN(3) == 0 && truth.Revision > 0 {
			c.Kind, c.Seen = linear.Read, truth
			h = append(h, c)
			continue
		}
		id := fmt.Sprint("o", rng.IntN(4))
		if _, again := outcomes[id]; !again {
			o := linear.Call{Kind: linear.Update, OpID: id, Expected: none, Verdict: linear.Applied}
			if !truth.Alive {
				o.Kind = linear.Create
			}
			after, _ := linear.Step(truth, &linear.Call{Kind: o.Kind, OpID: id, Expected: none, Verdict: linear.Unknown})
			o.Seen, truth = linear.View{Version: after.Version, Revision: after.Revision}, after
			outcomes[id] = o
		}
		o := outcomes[id]
		o.Client, o.Entity, o.Begin, o.End = c.Client, c.Entity, c.Begin, c.End
		h = append(h, o)
	}
	return h
}

// A failure leaves a picture and the calls, from which it can be checked again.
func TestAFailureLeavesArtefacts(t *testing.T) {
	h := append(good(), calls(during(read(4, 5, 0, "c3"), 9001, 9002))...)
	dir := t.TempDir()
	r, err := linear.Check(h, 10*time.Second, dir)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(r.Artefacts) != dir || !strings.Contains(r.String(), r.Artefacts) {
		t.Fatalf("artefacts in %q: %s", r.Artefacts, r)
	}
	page, err := os.ReadFile(filepath.Join(r.Artefacts, "e.html"))
	if err != nil || !bytes.Contains(page, []byte("update u1 if v1: applied v2 r2")) {
		t.Errorf("a picture of %d bytes, %v", len(page), err)
	}
	for _, name := range []string{"history.ndjson", "e.ndjson"} {
		data, err := os.ReadFile(filepath.Join(r.Artefacts, name))
		if err != nil {
			t.Fatal(err)
		}
		back, err := linear.ReadHistory(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := linear.Check(back, 10*time.Second, dir); err != nil || !slices.Equal(again.Illegal, []string{"e"}) {
			t.Errorf("%s: checked again: %v, %v", name, again, err)
		}
	}
	if r, err := linear.Check(good(), 10*time.Second, dir); err != nil || r.Artefacts != "" {
		t.Errorf("a good run leaves %q, %v", r.Artefacts, err)
	}
}

// A search that was given up shows nothing, and so it does not pass.
func TestAnUndecidedSearchIsNotOK(t *testing.T) {
	h := calls(write(linear.Create, "c1", 0, linear.Applied, 1, 1))
	for i := range 30 { // each may have happened anywhere, or not at all
		h = append(h, calls(during(write(linear.Update, fmt.Sprint("u", i), none, linear.Unknown, 0, 0), 200, 0))...)
	}
	h = append(h, calls(during(read(3, 3, 2, "nobody"), 9001, 9002))...)
	r, err := linear.Check(h, 1, t.TempDir())
	if err != nil || r.OK() || !slices.Equal(r.Undecided, []string{"e"}) || r.Artefacts == "" {
		t.Errorf("%v, %v", r, err)
	}
	if !strings.Contains(r.String(), "1 undecided") {
		t.Errorf("it does not say so: %s", r)
	}
}
