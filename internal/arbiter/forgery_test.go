package arbiter_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
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
	{"prolonged beyond", "is prolonged to", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Extended == nil {
			return nil
		}
		x := *out[i].Extended
		x.LeaseEnds = x.LeaseEnds.Add(1)
		return with(out, i, arbiter.Effect{Extended: &x})
	}},
	{"lapsed and forgotten", "nothing followed", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Lapsed == nil {
			return nil
		}
		return slices.Delete(out, i+1, i+2)
	}},
	{"a lapse for nothing", "claimed", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Lapsed == nil {
			return nil
		}
		l := *out[i].Lapsed
		l.Claimed = !l.Claimed
		return with(out, i, arbiter.Effect{Lapsed: &l})
	}},
	{"cancelled inside its grace", "inside its grace", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if p := out[i].Protected; p == nil || !p.Cancel {
			return nil
		}
		p := out[i].Protected
		return with(out, i, arbiter.Effect{Cancelled: &arbiter.Cancelled{
			OpID: p.OpID, Target: p.Target, From: op.Executing, Attempt: p.Attempt, Reason: op.CancelledByRequest,
		}})
	}},
	{"preempted inside its grace", "inside its grace", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if p := out[i].Protected; p == nil || p.Cancel || p.Kind != arbiter.ProtectedByGrace {
			return nil
		}
		p := out[i].Protected
		return with(out, i, arbiter.Effect{Preempted: &arbiter.Preempted{OpID: p.OpID, Target: p.Target, Attempt: p.Attempt, By: p.By, Count: 1}})
	}},
	{"preempted against the policy", "may not be", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if p := out[i].Protected; p == nil || p.Kind != arbiter.ProtectedByExecution {
			return nil
		}
		p := out[i].Protected
		return with(out, i, arbiter.Effect{Preempted: &arbiter.Preempted{OpID: p.OpID, Target: p.Target, Attempt: p.Attempt, By: p.By, Count: 1}})
	}},
	{"preempted once more", "for the", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Preempted == nil {
			return nil
		}
		p := *out[i].Preempted
		p.Count++
		return with(out, i, arbiter.Effect{Preempted: &p})
	}},
	{"protected by a grace that is over", "is over", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if p := out[i].Protected; p == nil || p.Kind != arbiter.ProtectedByGrace {
			return nil
		}
		p := *out[i].Protected
		p.Until = epoch
		return with(out, i, arbiter.Effect{Protected: &p})
	}},
	{"coalesced into another one", "did not win", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Coalesced == nil {
			return nil
		}
		c := *out[i].Coalesced
		c.Into = c.OpID
		return with(out, i, arbiter.Effect{Coalesced: &c})
	}},
	{"shared with nobody", "which is not so", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Shared == nil {
			return nil
		}
		s := *out[i].Shared
		s.With = "nobody"
		return with(out, i, arbiter.Effect{Shared: &s})
	}},
	{"parted from one that goes on", "which is not so", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Parted == nil {
			return nil
		}
		p := *out[i].Parted
		p.From = p.OpID
		return with(out, i, arbiter.Effect{Parted: &p})
	}},
	{"a priority nobody asked for", "said to have asked", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Accepted == nil || out[i].Accepted.Asked == 0 {
			return nil
		}
		a := *out[i].Accepted
		a.Asked = a.Priority
		return with(out, i, arbiter.Effect{Accepted: &a})
	}},
	{"waiting that was worth more", "boost of", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Decision == nil {
			return nil
		}
		d := *out[i].Decision
		d.Contenders = slices.Clone(d.Contenders)
		d.Contenders[0].Boost = 10
		return with(out, i, arbiter.Effect{Decision: &d})
	}},
	{"an unknown type that is known", "which is known", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Rejected == nil || out[i].Rejected.Reason != op.Expired {
			return nil
		}
		r := *out[i].Rejected
		r.Reason = op.UnknownType
		return with(out, i, arbiter.Effect{Rejected: &r})
	}},
	{"superseded by nobody", "none of its kind", func(out []arbiter.Effect, i int) []arbiter.Effect {
		if out[i].Rejected == nil || out[i].Rejected.Reason != op.Superseded {
			return nil
		}
		r := *out[i].Rejected
		r.Winner = "nobody"
		return with(out, i, arbiter.Effect{Rejected: &r})
	}},
}

// with replaces one effect.
func with(out []arbiter.Effect, i int, e arbiter.Effect) []arbiter.Effect {
	out = slices.Clone(out)
	out[i] = e
	return out
}

// TestWatchSees forges the effects of random histories: whatever is dropped,
// doubled or changed in what the watch is there for, it has to say so.
func TestWatchSees(t *testing.T) {
	for _, f := range forgeries {
		tried := 0
		for n := 0; n < 60 && (n < 10 || tried == 0); n++ {
			w := history(n)
			for at := range w.steps {
				if slices.ContainsFunc(w.steps[at].In, func(in arbiter.Input) bool { return in.Policy != nil }) {
					continue // whatever is so by one of the two is let through
				}
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
