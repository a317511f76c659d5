package arbiter_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// burst is what the seeds call contention: several operations on one key at once.
type burst struct {
	at  time.Time
	ops []op.Operation
}

// stream draws bursts of three to eight operations on one of ten keys, of three
// submitters, some of them identical.
func stream(n int) []burst {
	s := newSeeded(*seed, 8_000_000+uint64(n))
	var bursts []burst
	at, id := epoch, 0
	for range 20 {
		b := burst{at: at}
		target := "key-" + strconv.Itoa(s.draw("key", 10))
		for range 3 + s.draw("operations", 6) {
			retries := 3
			b.ops = append(b.ops, op.Operation{
				ID: "o" + strconv.Itoa(id), Type: op.TypeModifyField, Target: target, MaxRetries: &retries,
				Priority:  []op.Priority{op.Low, op.Normal, op.High, op.Critical}[s.draw("priority", 4)],
				Submitter: "s" + strconv.Itoa(s.draw("submitter", 3)), Params: []byte(strconv.Itoa(s.draw("params", 3))),
				OnConflict: op.OnConflictReject,
			})
			id++
		}
		bursts = append(bursts, b)
		at = at.Add(time.Duration(20+s.draw("pause", 60)) * time.Millisecond)
	}
	return bursts
}

func (b burst) submitTo(w *world) {
	for i, o := range b.ops {
		w.submit(o, i%3) // a message has up to three of them
	}
}

// streamed lets a stream through a machine and the oracle. Every attempt succeeds
// after five milliseconds.
func streamed(n int, choice op.Conflict) *world {
	w := newWorld(newSeeded(*seed, 8_500_000+uint64(n)))
	p := arbiter.DefaultPolicy()
	p.Types = map[string]arbiter.TypePolicy{op.TypeModifyField: {OnConflict: choice}}
	w.in = append(w.in, arbiter.Input{Policy: &p})
	bursts := stream(n)
	type outcome struct {
		at time.Time
		g  arbiter.Granted
	}
	var running []outcome
	for len(bursts) > 0 || w.m.Open() > 0 {
		// Whatever comes first: a burst, a result, or what is due.
		next, due := w.m.Next()
		if len(running) > 0 && (!due || running[0].at.Before(next)) {
			next, due = running[0].at, true
		}
		if len(bursts) > 0 && (!due || !bursts[0].at.After(next)) {
			next = bursts[0].at
			bursts[0].submitTo(w)
			bursts = bursts[1:]
		}
		w.now = latest(w.now, next)
		for len(running) > 0 && !running[0].at.After(w.now) {
			g := running[0].g
			running = running[1:]
			w.in = append(w.in, arbiter.Input{Result: &arbiter.Result{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "e"}})
		}
		w.step()
		for _, g := range w.grants {
			running = append(running, outcome{w.now.Add(5 * time.Millisecond), g})
		}
		w.grants = nil
		if w.wrong != "" {
			break
		}
	}
	return w
}

// useful is how many operations ended SUCCEEDED, of how many.
func useful(w *world) (succeeded, all int) {
	for _, v := range w.watch.ops {
		if all++; v.status == op.Succeeded {
			succeeded++
		}
	}
	return succeeded, all
}

// TestPoliciesForLosers plays the same 200 streams under each policy: the machine
// agrees with the oracle, and as much of the work is useful as the policy is for.
func TestPoliciesForLosers(t *testing.T) {
	streams := fewer(200)
	if testing.Short() {
		streams = 40
	}
	for _, c := range []struct {
		choice      op.Conflict
		least, most float64
	}{
		{op.OnConflictReject, 0.16, 0.21}, // one of 5.5
		{op.OnConflictRetry, 0.90, 0.999},
		{op.OnConflictSupersede, 0.45, 0.65}, // up to one of each submitter
		{op.OnConflictQueue, 0.999, 1},
		{op.OnConflictCoalesce, 0.999, 1},
	} {
		succeeded, all, attempts := 0, 0, 0
		reasons := map[op.Reason]int{}
		for n := range streams {
			w := streamed(n, c.choice)
			if w.wrong != "" {
				t.Fatalf("-seed %d, stream %d, %s: %s", *seed, n, c.choice, w.wrong)
			}
			s, a := useful(w)
			succeeded, all = succeeded+s, all+a
			for r, k := range w.watch.reasons {
				reasons[r] += k
			}
			for _, v := range w.watch.ops {
				attempts += v.attempt
			}
		}
		share := float64(succeeded) / float64(all)
		t.Logf("%-9s %5.1f %% of %d operations succeeded in %d attempts, %v", c.choice, 100*share, all, attempts, reasons)
		if share < c.least || share > c.most {
			t.Errorf("%s: %.3f of the work is useful, want %.3f to %.3f", c.choice, share, c.least, c.most)
		}
	}
}

// TestPoliciesDiffer shows that the test above can fail: under each policy a stream
// ends otherwise than under each other one.
func TestPoliciesDiffer(t *testing.T) {
	ends := map[string]op.Conflict{}
	for _, choice := range []op.Conflict{op.OnConflictReject, op.OnConflictRetry, op.OnConflictSupersede, op.OnConflictQueue, op.OnConflictCoalesce} {
		var told []string
		for _, s := range streamed(0, choice).steps {
			told = append(told, spoken(s.Out)...)
		}
		slices.Sort(told)
		text := string(encoded(t, told))
		if other, same := ends[text]; same {
			t.Errorf("%s and %s come to the same", choice, other)
		}
		ends[text] = choice
	}
}
