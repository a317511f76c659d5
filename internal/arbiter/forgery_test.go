package arbiter_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

// forgeries are effects that break a promise, and what the watch says of them.
var forgeries = []struct {
	name string
	why  string
	do   func(out []arbiter.Effect, i int) []arbiter.Effect // nil: does not apply
}{
	{"two terminal records", "", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Succeeded == nil && out[i].Rejected == nil && out[i].Cancelled == nil {
			return nil
		}
		return slices.Insert(out, i, out[i])
	}},
	{"granted twice", "together with", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Granted == nil {
			return nil
		}
		return slices.Insert(out, i, out[i])
	}},
	{"granted without a decision", "without a decision", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Decision == nil {
			return nil
		}
		return slices.Delete(out, i, i+1)
	}},
	{"failed and left so", "left FAILED", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Failed == nil {
			return nil
		}
		return slices.Delete(out, i+1, i+2)
	}},
	{"the loser wins", "does not list its winner first", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if d := out[i].Decision; d == nil || len(d.Contenders) < 2 {
			return nil
		}
		d := *out[i].Decision
		d.Winner = d.Contenders[1].OpID
		return append(append(slices.Clone(out[:i]), arbiter.Effect{Decision: &d}), out[i+1:]...)
	}},
	{"an older attempt", "counts, current is", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Succeeded == nil {
			return nil
		}
		s := *out[i].Succeeded
		s.Attempt--
		return append(append(slices.Clone(out[:i]), arbiter.Effect{Succeeded: &s}), out[i+1:]...)
	}},
	{"a shorter backoff", "waits", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Retry == nil {
			return nil
		}
		r := *out[i].Retry
		r.Delay /= 2
		return append(append(slices.Clone(out[:i]), arbiter.Effect{Retry: &r}), out[i+1:]...)
	}},
	{"a retry too many", "has retry", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Retry == nil {
			return nil
		}
		r := *out[i].Retry
		r.RetryCount++
		return append(append(slices.Clone(out[:i]), arbiter.Effect{Retry: &r}), out[i+1:]...)
	}},
}

// TestWatchSees forges the effects of random histories: whatever is dropped,
// doubled or changed in what the watch is there for, it has to say so.
func TestWatchSees(t *testing.T) {
	for _, f := range forgeries {
		tried := 0
		for n := range 10 {
			w := history(n)
			for at := range w.steps {
				for i := range w.steps[at].Out {
					if forged := f.do(slices.Clone(w.steps[at].Out), i); forged != nil && tried < 40 {
						tried++
						said := afterForgery(w.steps, at, forged)
						if !strings.Contains(said, f.why) || said == "" {
							t.Fatalf("%s in step %d of history %d: %q", f.name, at+1, n, said)
						}
					}
				}
			}
		}
		if tried == 0 {
			t.Errorf("%s was never tried", f.name)
		}
	}
}

// afterForgery returns what a watch says of a history in which one step is forged.
func afterForgery(steps []arbiter.Step, at int, out []arbiter.Effect) string {
	w := newWatch()
	for i := range steps[:at+1] {
		s := steps[i]
		if i == at {
			s.Out = out
		}
		w.see(&s)
	}
	return strings.Join(w.broken, "\n")
}
