package bus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
)

// fenceStep is what the rivals write: enough to check the chain.
type fenceStep struct {
	Writer string `json:"w"`
	Epoch  int    `json:"e"`
	Prev   uint64 `json:"prev"` // the sequence it was appended behind
}

// rival takes a partition over and appends until it is deposed, again and
// again.
type rival struct {
	b         *bus.Bus
	name      string
	committed map[string]uint64 // id to sequence, as we were told
	deposed   map[string]bool
	unknown   map[string]bool
	epochs    int
}

func (r *rival) run(ctx context.Context, t *testing.T, p int) {
	for n := 0; ctx.Err() == nil; {
		last, _, err := r.b.JournalLast(ctx, p)
		if err != nil {
			continue
		}
		var s fenceStep
		if len(last.Data) > 0 {
			must(t, json.Unmarshal(last.Data, &s))
		}
		s.Writer, s.Epoch = r.name, s.Epoch+1
		r.epochs++
		at := last.Seq
		for burst := 0; burst < 40 && ctx.Err() == nil; burst++ {
			n++
			id := fmt.Sprintf("%s-%d-%d", r.name, p, n)
			s.Prev = at
			body, err := json.Marshal(s)
			must(t, err)
			// A deadline far below an election leaves some outcomes unknown.
			attempt, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
			seq, out, _ := r.b.JournalAppend(attempt, p, id, body, at)
			cancel()
			if out == bus.Committed {
				r.committed[id] = seq
				at = seq
				continue
			}
			if out == bus.Deposed {
				r.deposed[id] = true
			} else {
				r.unknown[id] = true
			}
			break
		}
	}
}

func TestFenceWithReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("six seconds of rivalry")
	}
	c := cluster(t, small())
	ctx := within(t, 6*time.Second)
	var wg sync.WaitGroup
	var rivals []*rival
	for p := range 2 {
		for _, name := range []string{"a", "b"} {
			r := &rival{b: open(t, join(t, c)), name: name, committed: map[string]uint64{}, deposed: map[string]bool{}, unknown: map[string]bool{}}
			rivals = append(rivals, r)
			wg.Go(func() { r.run(ctx, t, p) })
		}
	}
	stepDowns := unrest(ctx, t, c)
	wg.Wait()
	committed, deposed, unknown := 0, 0, 0
	stored := checkChains(t, open(t, join(t, c)))
	for _, r := range rivals {
		committed, deposed, unknown = committed+len(r.committed), deposed+len(r.deposed), unknown+len(r.unknown)
		for id, seq := range r.committed {
			if stored[id] != seq {
				t.Errorf("step %s was acknowledged at %d, the journal has it at %d", id, seq, stored[id])
			}
		}
		for id := range r.deposed {
			if stored[id] != 0 {
				t.Errorf("step %s was refused, and is in the journal", id)
			}
		}
	}
	t.Logf("%d committed, %d deposed, %d unknown, %d stored, %d step-downs", committed, deposed, unknown, len(stored), stepDowns)
	if committed < 100 || deposed < 5 || stepDowns < 3 {
		t.Error("too little happened to show anything")
	}
}

// unrest has the leader of the journal step down until ctx ends.
func unrest(ctx context.Context, t *testing.T, c *natsd.Cluster) (stepDowns int) {
	nc := join(t, c)
	tick := time.NewTicker(700 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return stepDowns
		case <-tick.C:
		}
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		if c.StepDown(attempt, nc, bus.StreamJournal) == nil {
			stepDowns++
		}
		cancel()
	}
}

// checkChains reads the whole journal and checks that every step follows from
// the one before it, once. It returns the sequences by id.
func checkChains(t *testing.T, b *bus.Bus) map[string]uint64 {
	t.Helper()
	stored := map[string]uint64{}
	type end struct {
		seq   uint64
		epoch int
		who   string
	}
	ends := map[int]end{}
	for e, err := range b.JournalRead(within(t, 30*time.Second), -1, 0) {
		must(t, err)
		var s fenceStep
		must(t, json.Unmarshal(e.Data, &s))
		was := ends[e.Partition]
		switch {
		case stored[e.ID] != 0:
			t.Errorf("step %s is stored twice, at %d and %d", e.ID, stored[e.ID], e.Seq)
		case s.Prev != was.seq:
			t.Errorf("partition %d: step %s at %d was appended behind %d, not %d", e.Partition, e.ID, e.Seq, s.Prev, was.seq)
		case s.Epoch < was.epoch || s.Epoch == was.epoch && s.Writer != was.who:
			t.Errorf("partition %d: epoch %d of %s follows %d of %s", e.Partition, s.Epoch, s.Writer, was.epoch, was.who)
		}
		stored[e.ID] = e.Seq
		ends[e.Partition] = end{e.Seq, s.Epoch, s.Writer}
	}
	return stored
}
