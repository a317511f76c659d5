package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestViewsReadAndWalk(t *testing.T) {
	_, b := single(t, small())
	for range b.Entities(t.Context()) {
		t.Fatal("an entity on an empty server")
	}
	if _, found, err := b.Entity(t.Context(), "x"); found || err != nil {
		t.Fatalf("no entity: %v, %v", found, err)
	}
	e := emitter(t, b)
	want := map[string]string{}
	for i := range 2500 {
		id := fmt.Sprint("e", i%2000)
		want[id] = fmt.Sprint(i)
		e.At(uint64(i + 1))
		e.Add(bus.EntityMsg(id, fmt.Append(nil, i)))
	}
	e.Add(bus.RecordMsg("o1", []byte("r")))
	must(t, e.Flush(t.Context()))
	got := map[string]string{}
	for kv, err := range b.Entities(t.Context()) {
		must(t, err)
		got[kv.Key] = string(kv.Value)
	}
	if !maps.Equal(got, want) {
		t.Errorf("walked over %d entities, want %d", len(got), len(want))
	}
	n := 0
	for kv, err := range b.Records(t.Context()) {
		must(t, err)
		if n++; kv.Key != "o1" || kv.Rev == 0 {
			t.Errorf("record %+v", kv)
		}
	}
	for range b.Entities(t.Context()) {
		break // the caller may stop
	}
	kv, err := b.JetStream().KeyValue(t.Context(), "OPS_ENTITIES")
	must(t, err)
	must(t, kv.Delete(t.Context(), "e0"))
	if _, found, err := b.Entity(t.Context(), "e0"); found || err != nil {
		t.Errorf("a deleted key: %v, %v", found, err)
	}
	if n, err := b.Mark(t.Context(), 0); n != 0 || err != nil {
		t.Errorf("no mark: %d, %v", n, err)
	}
	if n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestReadsEndWithTheirContext(t *testing.T) {
	s, b := single(t, small())
	s.Stop()
	ctx := within(t, 50*time.Millisecond)
	if _, _, err := b.Entity(ctx, "a"); err == nil {
		t.Error("read from nobody")
	}
	for _, err := range b.Entities(ctx) {
		if err == nil {
			t.Error("walked over nobody")
		}
	}
}

func TestRecordsAgeOut(t *testing.T) {
	natstest.Run(t, func(t *testing.T, s *natstest.Server) {
		l := small()
		l.RecordsMaxAge = 10 * time.Minute
		nc := s.Connect(t)
		_, err := bus.Setup(t.Context(), nc, l)
		must(t, err)
		b := open(t, nc)
		e := emitter(t, b)
		e.At(1)
		e.Add(bus.RecordMsg("o", []byte("1")))
		must(t, e.Flush(t.Context()))
		time.Sleep(l.RecordsMaxAge + time.Minute) // fake time: the age itself, not a guess
		if _, found, err := b.Record(t.Context(), "o"); found || err != nil {
			t.Errorf("after its age: %v, %v", found, err)
		}
		e.At(2)
		e.Add(bus.RecordMsg("o", []byte("2")))
		must(t, e.Flush(t.Context()))
		if v, found, err := b.Record(t.Context(), "o"); string(v) != "2" || !found || err != nil {
			t.Errorf("written anew: %q, %v, %v", v, found, err)
		}
	})
}

func TestPolicy(t *testing.T) {
	_, b := single(t, small())
	if _, rev, err := b.Policy(t.Context()); rev != 0 || err != nil {
		t.Fatalf("no policy: %d, %v", rev, err)
	}
	type seen struct {
		data string
		rev  uint64
	}
	c := make(chan seen, 10)
	must(t, b.WatchPolicy(t.Context(), func(data []byte, rev uint64) { c <- seen{string(data), rev} }))
	rev1, err := b.PutPolicy(t.Context(), []byte("one"))
	must(t, err)
	if got := <-c; got != (seen{"one", rev1}) {
		t.Errorf("watched %v", got)
	}
	data, rev, err := b.Policy(t.Context())
	if string(data) != "one" || rev != rev1 || err != nil {
		t.Errorf("read %q, %d, %v", data, rev, err)
	}
	first := make(chan seen, 10)
	must(t, b.WatchPolicy(t.Context(), func(data []byte, rev uint64) { first <- seen{string(data), rev} }))
	select {
	case got := <-first:
		if got.data != "one" {
			t.Errorf("a late watcher begins with %v", got)
		}
	default:
		t.Error("a late watcher does not know the policy when WatchPolicy returns")
	}
	rev2, err := b.UpdatePolicy(t.Context(), []byte("two"), rev1)
	must(t, err)
	if got := <-first; got != (seen{"two", rev2}) || rev2 <= rev1 {
		t.Errorf("watched %v", got)
	}
	if _, err := b.UpdatePolicy(t.Context(), []byte("three"), rev1); !errors.Is(err, bus.ErrPolicyChanged) {
		t.Errorf("an update of an old revision: %v", err)
	}
}

func TestSnapshots(t *testing.T) {
	_, b := single(t, small())
	if _, _, _, ok, err := b.LoadSnapshot(t.Context(), 1); ok || err != nil {
		t.Fatalf("no snapshot: %v, %v", ok, err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // 3.2 MB: several messages
	for i, step := range []uint64{10, 20, 15, 20} {
		body := append(fmt.Appendf(nil, "%d-%d ", i, step), big...)
		must(t, b.SaveSnapshot(t.Context(), 1, step, step*2, body))
		want := map[int]uint64{0: 10, 1: 20, 2: 20, 3: 20}[i]
		got, seq, data, ok, err := b.LoadSnapshot(t.Context(), 1)
		if err != nil || !ok || got != want || seq != want*2 || len(data) != len(body) {
			t.Fatalf("after saving step %d: step %d, journal %d, %d bytes, %v, %v", step, got, seq, len(data), ok, err)
		}
		if i == 1 && !bytes.Equal(data, body) {
			t.Error("other bytes came back")
		}
	}
	s, err := b.JetStream().Stream(t.Context(), "OBJ_OPS_SNAPSHOTS")
	must(t, err)
	if st := s.CachedInfo().State; st.Bytes > uint64(len(big))*3/2 || st.NumSubjects != 2 {
		t.Errorf("former snapshots stay: %d bytes, %d subjects", st.Bytes, st.NumSubjects)
	}
	must(t, b.SaveSnapshot(t.Context(), 0, 1, 1, nil))
	if _, _, data, ok, err := b.LoadSnapshot(t.Context(), 0); !ok || len(data) != 0 || err != nil {
		t.Errorf("an empty snapshot: %v, %v", ok, err)
	}
}

func TestEvents(t *testing.T) {
	_, b := single(t, small())
	e := emitter(t, b)
	tell := func(name op.EventName, target string) {
		e.Add(bus.EventMsg(bus.EventSubject(name, target), "", []byte(target)))
		must(t, e.Flush(t.Context()))
	}
	for _, target := range []string{"a", "b", "a"} {
		tell(op.EventSubmitted, target)
		tell(op.EventEntityCreated, target)
	}
	take := func(q bus.EventQuery, n int) (seqs []uint64) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for ev, err := range b.Events(ctx, q) {
			must(t, err)
			if ev.Subject != bus.EventSubject(ev.Name, ev.Target) || string(ev.Data) != ev.Target {
				t.Errorf("event %+v", ev)
			}
			if seqs = append(seqs, ev.Seq); len(seqs) == n {
				break
			}
		}
		return seqs
	}
	for name, c := range map[string]struct {
		q    bus.EventQuery
		want []uint64
	}{
		"all":         {bus.EventQuery{}, []uint64{1, 2, 3, 4, 5, 6}},
		"pattern":     {bus.EventQuery{Subjects: []string{bus.EventFilter("entity.*", "")}}, []uint64{2, 4, 6}},
		"target":      {bus.EventQuery{Subjects: []string{bus.EventFilter("", "a")}}, []uint64{1, 2, 5, 6}},
		"from":        {bus.EventQuery{FromSeq: 4}, []uint64{4, 5, 6}},
		"since":       {bus.EventQuery{Since: time.Now().Add(-time.Hour)}, []uint64{1, 2, 3, 4, 5, 6}},
		"overlapping": {bus.EventQuery{Subjects: []string{bus.EventFilter("entity.*", ""), bus.EventFilter("entity.created", "a"), "ops.event.entity.>"}}, []uint64{2, 4, 6}},
	} {
		if got := take(c.q, len(c.want)); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	got := make(chan bus.StoredEvent)
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	go func() {
		defer close(got)
		close(started)
		for ev := range b.Events(ctx, bus.EventQuery{New: true}) {
			got <- ev
		}
	}()
	<-started
	// What is told before the query has begun is old: tell until one is seen.
	for seen := false; !seen; {
		tell(op.EventRejected, "z")
		select {
		case ev := <-got:
			seen = true
			if ev.Seq <= 6 {
				t.Errorf("an old event: %d", ev.Seq)
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
	cancel()
	for range got {
	}
}

func TestResults(t *testing.T) {
	s, b := single(t, small())
	if _, err := b.Report(within(t, time.Second), 2, nil); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("report to nobody: %v", err)
	}
	nc, err := s.Connect()
	must(t, err)
	t.Cleanup(nc.Close)
	silent, err := open(t, nc).Results(2, func([]byte, func([]byte)) {}) // a former owner
	must(t, err)
	stop, err := b.Results(2, func(data []byte, reply func([]byte)) {
		go reply(append([]byte("re: "), data...)) // later, from elsewhere
	})
	must(t, err)
	answer, err := b.Report(within(t, 5*time.Second), 2, []byte("done"))
	if string(answer) != "re: done" || err != nil {
		t.Errorf("answer %q, %v", answer, err)
	}
	stop()
	if _, err := b.Report(within(t, 50*time.Millisecond), 2, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("report to one that never answers: %v", err)
	}
	silent()
}
