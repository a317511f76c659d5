package arbiter_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// crossing is a target on which HIGH operations come as fast as they are executed,
// and now and then a weaker one.
type crossing struct {
	steps []arbiter.Step
	came  map[string]time.Time
	waits map[string]time.Duration // until it won, of the weaker ones
	boost map[string]int           // with which it won
}

const pace = 5 * time.Millisecond

// cross lets it go on for a while. It takes the partition over every so often.
func cross(t *testing.T, aging arbiter.Aging, whole time.Duration) *crossing {
	t.Helper()
	c := &crossing{came: map[string]time.Time{}, waits: map[string]time.Duration{}, boost: map[string]int{}}
	p := arbiter.DefaultPolicy()
	p.StagingWindow, p.Aging = 0, aging
	m := arbiter.New(3)
	in := []arbiter.Input{{Policy: &p}}
	rng := newSeeded(*seed, 11_000_000)
	for n := range uint64(whole / pace) {
		now := epoch.Add(time.Duration(n) * pace)
		o := operation("h"+strconv.FormatUint(n, 10), "door")
		o.Priority, o.OnConflict = op.High, op.OnConflictQueue
		in = append(in, submitted(2*n+1, o))
		if n%200 == 10 && now.Before(epoch.Add(whole/2)) {
			o.ID, o.Priority = "weak"+strconv.FormatUint(n, 10), op.Priority(1+rng.draw("priority", 7))
			in = append(in, submitted(2*n+2, o))
			c.came[o.ID] = now
		}
		s := arbiter.Step{Schema: arbiter.StepSchema, ID: "step-" + strconv.FormatUint(n, 10), Partition: 3, Number: n + 1, At: now, In: in}
		in = nil
		m.Step(&s)
		c.steps = append(c.steps, s)
		for _, e := range s.Out {
			if g := e.Granted; g != nil {
				in = append(in, arbiter.Input{Result: &arbiter.Result{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt}})
				if at, weak := c.came[g.OpID]; weak {
					c.waits[g.OpID] = now.Sub(at)
				}
			}
			if d := e.Decision; d != nil {
				c.boost[d.Winner] = d.Contenders[0].Boost
			}
		}
		if n%599 == 0 {
			m, _ = restored(t, encoded(t, m.Snapshot()))
		}
	}
	return c
}

// TestAgingEndsStarvation: without it, whoever is weaker than a stream that never
// ends waits for ever; with it nobody does. What it was worth stands in the
// decision, which a replay computes again.
func TestAgingEndsStarvation(t *testing.T) {
	whole := 24 * time.Second
	without := cross(t, arbiter.Aging{}, whole)
	if len(without.came) < 10 || len(without.waits) > 0 {
		t.Errorf("without aging %d of %d weaker ones had a turn", len(without.waits), len(without.came))
	}
	agings := []arbiter.Aging{
		{Every: time.Second, Step: 1, Max: 9},
		{Every: 200 * time.Millisecond, Step: 2, Max: 9},
		{Every: 2 * time.Second, Step: 3, Max: 7},
	}
	for _, aging := range agings[:max(1, fewer(len(agings)))] {
		with := cross(t, aging, whole)
		longest := time.Duration(0)
		for id, at := range with.came {
			wait, turn := with.waits[id]
			if !turn {
				t.Errorf("%+v: %s, which came after %s, never had its turn", aging, id, at.Sub(epoch))
				continue
			}
			longest = max(longest, wait)
			if with.boost[id] == 0 {
				t.Errorf("%+v: the decision does not say why %s won", aging, id)
			}
		}
		levels := int(op.High - op.Background)
		limit := aging.Every*time.Duration((levels+aging.Step-1)/aging.Step) + 50*pace
		t.Logf("%+v: %d weaker ones waited at most %s", aging, len(with.waits), longest)
		if longest > limit {
			t.Errorf("%+v: somebody waited %s, longer than %s", aging, longest, limit)
		}
		replayed(t, with.steps)
		if i := slices.IndexFunc(with.steps, forgeBoost); i < 0 {
			t.Errorf("%+v: no decision has a boost", aging)
		} else if err := replayUpto(t, with.steps[:i+1]); err == nil {
			t.Errorf("%+v: another boost is accepted", aging)
		}
	}
}

// forgeBoost changes the boost of a winner, if it has one.
func forgeBoost(s arbiter.Step) bool {
	for _, e := range s.Out {
		if d := e.Decision; d != nil && d.Contenders[0].Boost > 0 {
			d.Contenders[0].Boost--
			return true
		}
	}
	return false
}

// replayUpto replays steps of which the last one may be forged.
func replayUpto(t *testing.T, steps []arbiter.Step) error {
	t.Helper()
	m := arbiter.New(steps[0].Partition)
	for i := range steps {
		s := again(t, &steps[i])
		if err := m.Replay(&s); err != nil {
			if i < len(steps)-1 {
				t.Fatal(err)
			}
			return err
		}
	}
	return nil
}
