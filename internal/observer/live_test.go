package observer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/internal/systest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// watched is a whole system with an observer more, whose metrics can be read.
type watched struct {
	t   *testing.T
	ctx context.Context
	b   *bus.Bus
	m   *metrics.Observer
	o   *observer.Observer
	n   int
}

func watch(t *testing.T) *watched {
	t.Helper()
	ctx, b := systest.Start(t)
	w := &watched{t: t, ctx: ctx, b: b}
	w.m = w.start("observer-live")
	return w
}

// start runs an observer with metrics of its own until the test ends.
func (w *watched) start(name string) *metrics.Observer {
	w.t.Helper()
	m := metrics.New("test").Observer()
	o, err := observer.New(observer.Config{Bus: w.b, Name: name, Metrics: m})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.o = o
	return m
}

// work has a few operations contend and end.
func (w *watched) work() {
	w.t.Helper()
	a := await.Start(w.ctx, w.b)
	defer a.Stop()
	for range 5 {
		w.n++
		one, two := fmt.Sprintf("a-%d", w.n), fmt.Sprintf("b-%d", w.n)
		body := fmt.Sprintf(`[{"op_id":%q,"op_type":"create_entity","priority":8},{"op_id":%q,"op_type":"version_entity"}]`, one, two)
		if _, err := w.b.Publish(w.ctx, bus.SubmitSubject(fmt.Sprint("e", w.n)), []byte(body), "", nil); err != nil {
			w.t.Fatal(err)
		}
		a.Expect(one, two)
	}
	if err := a.Wait(w.ctx); err != nil {
		w.t.Fatal(err)
	}
}

// reads waits until the observer has read the journal up to a sequence.
func (w *watched) reads(seq uint64) observer.Stats {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if s := w.o.Stats(); s.JournalSeq >= seq {
			return s
		}
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.t.Fatalf("the observer stands at %d, not %d", w.o.Stats().JournalSeq, seq)
		}
	}
}

// end is the last sequence of the journal.
func (w *watched) end() (last uint64) {
	w.t.Helper()
	for p := range w.b.Layout().Partitions {
		e, _, err := w.b.JournalLast(w.ctx, p)
		if err != nil {
			w.t.Fatal(err)
		}
		last = max(last, e.Seq)
	}
	return last
}

// intrude appends a step of somebody who does not own the partition.
func (w *watched) intrude(partition int) uint64 {
	w.t.Helper()
	last, found, err := w.b.JournalLast(w.ctx, partition)
	if err != nil || !found {
		w.t.Fatal(found, err)
	}
	var s arbiter.Step
	if err := json.Unmarshal(last.Data, &s); err != nil {
		w.t.Fatal(err)
	}
	s.ID, s.Owner, s.In, s.Out, s.Takeover = "intruder-1", "intruder", nil, nil, false
	s.Number++
	data, err := op.Marshal(&s)
	if err != nil {
		w.t.Fatal(err)
	}
	seq, outcome, err := w.b.JournalAppend(w.ctx, partition, s.ID, data, last.Seq)
	if outcome != bus.Committed {
		w.t.Fatal(outcome, err)
	}
	return seq
}

// told returns the first violation that is told.
func (w *watched) told() *op.Event {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
	defer cancel()
	for e, err := range w.b.Events(ctx, bus.EventQuery{Subjects: []string{bus.EventFilter(string(op.EventViolated), "")}}) {
		if err != nil {
			w.t.Fatal(err)
		}
		var body op.Event
		if err := json.Unmarshal(e.Data, &body); err != nil {
			w.t.Fatal(err)
		}
		return &body
	}
	w.t.Fatal("no violation was told")
	return nil
}

// violations counts the events that tell of one.
func (w *watched) violations() uint64 {
	w.t.Helper()
	t, err := observer.ReadTrace(w.ctx, w.b, 100_000)
	if err != nil {
		w.t.Fatal(err)
	}
	n := uint64(0)
	for _, raw := range t.Events {
		var e op.Event
		if err := json.Unmarshal(raw, &e); err != nil {
			w.t.Fatal(err)
		}
		if e.Name == op.EventViolated {
			n++
		}
	}
	return n
}

// counted adds up what the metric counts of violations, over all invariants.
func counted(t *testing.T, m *metrics.Observer) (sum float64, series int) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m.Violations)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			sum += x.GetCounter().GetValue()
			series++
		}
	}
	return sum, series
}

// TestLiveAudit lets a system work, which raises nothing; then somebody writes into
// the journal who may not, which is counted and told once, though two observers see
// it. An observer that starts later sees it, too.
func TestLiveAudit(t *testing.T) {
	w := watch(t)
	w.work()
	if s := w.reads(w.end()); s.Completed < 5 || s.Rejected < 5 || s.Violations != 0 || w.violations() != 0 {
		t.Fatalf("a clean run: %+v", s)
	}
	sum, series := counted(t, w.m)
	if sum != 0 || series < 50 {
		t.Fatalf("a clean run: the metric counts %v in %d series, which a rate needs before the first", sum, series)
	}

	partition := bus.PartitionOf("e1", w.b.Layout().Partitions)
	seq := w.intrude(partition)
	e := w.told() // maybe by the other observer, before this one has read it
	w.reads(seq)
	if e.Invariant != audit.LogOwner || e.Seq != seq || e.Partition == nil || *e.Partition != partition || e.Text == "" || e.Type != op.EventType {
		t.Errorf("told: %+v", e)
	}
	if n := testutil.ToFloat64(w.m.Violations.WithLabelValues(audit.LogOwner)); n != 1 {
		t.Errorf("the metric counts %v", n)
	}
	if h := w.o.Health(); h.Status == observer.Healthy {
		t.Errorf("health: %+v", h)
	}

	w.work() // the owner was deposed and takes over; nothing else is wrong
	s := w.reads(w.end())
	if sum, n := counted(t, w.m); s.Violations != 1 || sum != 1 || n != series {
		t.Errorf("afterwards: %d violations, the metric counts %v in %d series", s.Violations, sum, n)
	}
	if n := w.violations(); n != 1 {
		t.Errorf("told %d times", n)
	}
	m := w.start("observer-late")
	w.reads(w.end())
	if n := testutil.ToFloat64(m.Violations.WithLabelValues(audit.LogOwner)); n != 1 {
		t.Errorf("an observer that starts later counts %v", n)
	}
}
