package submitter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// intakeLog is an intake in memory. Every publish takes a millisecond of a fake
// clock, so that all messages sent together are under way together.
type intakeLog struct {
	mu       sync.Mutex
	acked    map[string]bool
	sent     map[string]bool
	inOrder  map[string][]string // by target: ids as they were stored
	messages int
	broken   []string
	flying   map[int]bool // partitions with a message under way
	largest  int
	parents  map[string]string // of operations that were added, when their parent was before
}

func (l *intakeLog) publish(_ context.Context, subject string, body []byte, _ string) error {
	if body[0] == '{' {
		body = append(append([]byte{'['}, body...), ']')
	}
	var ops []op.Operation
	if err := json.Unmarshal(body, &ops); err != nil {
		return err
	}
	partition := bus.PartitionOf(ops[0].Target, testPartitions)
	l.begin(subject, ops, partition)
	time.Sleep(time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.flying, partition)
	for i := range ops {
		l.acked[ops[i].ID] = true
		l.inOrder[ops[i].Target] = append(l.inOrder[ops[i].Target], ops[i].ID)
	}
	return nil
}

// begin checks what must hold when a message is sent.
func (l *intakeLog) begin(subject string, ops []op.Operation, partition int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	complain := func(format string, args ...any) { l.broken = append(l.broken, fmt.Sprintf(format, args...)) }
	l.messages++
	l.largest = max(l.largest, len(ops))
	if l.flying[partition] {
		complain("two messages of partition %d are under way", partition)
	}
	l.flying[partition] = true
	want := bus.BulkSubject(ops[0].Target)
	if len(ops) == 1 {
		want = bus.SubmitSubject(ops[0].Target)
	}
	if subject != want {
		complain("subject %s, want %s", subject, want)
	}
	here := map[string]bool{}
	for i := range ops {
		o := &ops[i]
		if l.sent[o.ID] {
			complain("%s is sent twice", o.ID)
		}
		if p := bus.PartitionOf(o.Target, testPartitions); p != partition {
			complain("%s of partition %d is in a message of partition %d", o.ID, p, partition)
		}
		if parent := l.parents[o.ID]; parent != "" && !l.acked[parent] && !here[parent] {
			complain("%s is sent before its parent %s was acknowledged", o.ID, parent)
		}
		l.sent[o.ID], here[o.ID] = true, true
	}
}

func newIntakeLog() *intakeLog {
	return &intakeLog{
		acked: map[string]bool{}, sent: map[string]bool{}, inOrder: map[string][]string{},
		flying: map[int]bool{}, parents: map[string]string{},
	}
}

// Whatever is added, in whatever sizes it is packed: nothing is lost or doubled,
// a target keeps its order, and a parent is acknowledged before its child is
// sent unless they share a message.
func TestPackingKeepsOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := PackOptions{
			MaxOps:   rapid.IntRange(1, 12).Draw(rt, "max ops"),
			MaxBytes: rapid.IntRange(1, 2000).Draw(rt, "max bytes"),
			Window:   rapid.IntRange(1, 60).Draw(rt, "window"),
		}
		targets := rapid.IntRange(1, 20).Draw(rt, "targets")
		n := rapid.IntRange(0, 150).Draw(rt, "operations")
		l := newIntakeLog()
		added := map[string][]string{}
		synctest.Test(t, func(t *testing.T) {
			p := fake(l.publish).NewPacker(o)
			for i := range n {
				m := modify(strconv.Itoa(i), fmt.Sprintf("user-%d", rapid.IntRange(0, targets-1).Draw(rt, "target")))
				if i > 0 && rapid.Bool().Draw(rt, "has a parent") {
					m.Parent = strconv.Itoa(rapid.IntRange(max(0, i-20), i-1).Draw(rt, "parent"))
					l.mu.Lock()
					l.parents[m.ID] = m.Parent
					l.mu.Unlock()
				}
				added[m.Target] = append(added[m.Target], m.ID)
				if id, err := p.Add(t.Context(), m); err != nil || id != m.ID {
					rt.Fatalf("add: %s, %v", id, err)
				}
				if rapid.IntRange(0, 40).Draw(rt, "flush") == 0 {
					if err := p.Flush(t.Context()); err != nil {
						rt.Fatal(err)
					}
					if got := p.Progress(); got.Acked != i+1 {
						rt.Fatalf("%d acked of %d after a flush", got.Acked, i+1)
					}
				}
			}
			if err := p.Flush(t.Context()); err != nil {
				rt.Fatal(err)
			}
			if got := p.Progress(); got != (Progress{Added: n, Acked: n, Messages: l.messages}) {
				rt.Errorf("progress %+v", got)
			}
		})
		for _, b := range l.broken {
			rt.Error(b)
		}
		if l.largest > o.MaxOps {
			rt.Errorf("%d operations in a message", l.largest)
		}
		if fmt.Sprint(l.inOrder) != fmt.Sprint(added) {
			rt.Errorf("stored %v, added %v", l.inOrder, added)
		}
	})
}

// Whatever the options ask for, a message is one that the resolver takes.
func TestPackingStaysWithinTheLimitsOfABulk(t *testing.T) {
	var most, largest int
	s := fake(func(_ context.Context, _ string, body []byte, _ string) error {
		ops, _, err := op.DecodeBulk(body, op.BuiltinTypes())
		most, largest = max(most, len(ops)), max(largest, len(body))
		return err
	})
	p := s.NewPacker(PackOptions{MaxOps: 1 << 20, MaxBytes: 1 << 30, Window: 1 << 20})
	for i := range 2400 {
		m := modify(fmt.Sprintf("%04d", i), "user-1") // one target, so that one message is sent at a time
		if i >= 1200 {
			m.Submitter = strings.Repeat("x", 1000)
		}
		if _, err := p.Add(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if most != op.MaxBulk || largest < op.MaxBulkBody*9/10 {
		t.Errorf("up to %d operations and %d bytes a message", most, largest)
	}
}

// Without parents between partitions messages become full, and a line of parents
// does not hold up what has nothing to do with it.
func TestPackingIsDense(t *testing.T) {
	for _, c := range []struct {
		name    string
		parents bool
		most    int
	}{{"independent", false, 110}, {"a line of parents", true, 2500}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newIntakeLog()
				p := fake(l.publish).NewPacker(PackOptions{})
				for i := range 20_000 {
					m := modify(strconv.Itoa(i), fmt.Sprintf("user-%d", i%997))
					if c.parents && i%20 == 0 && i > 0 {
						m.Parent = strconv.Itoa(i - 20)
					}
					if _, err := p.Add(t.Context(), m); err != nil {
						t.Fatal(err)
					}
				}
				if err := p.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				t.Logf("%d messages", l.messages)
				if l.messages > c.most {
					t.Errorf("%d messages for 20,000 operations", l.messages)
				}
			})
		})
	}
}

// A full log is waited for, and the wait is told.
func TestPackingWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := time.Now().Add(time.Minute)
		s := fake(func(context.Context, string, []byte, string) error {
			if time.Now().Before(room) {
				return bus.ErrIntakeFull
			}
			return nil
		})
		var told []Progress
		var acked []string
		p := s.NewPacker(PackOptions{Progress: func(v Progress) { told = append(told, v) }, Acked: func(ids []string) { acked = append(acked, ids...) }})
		for _, id := range []string{"a", "b"} {
			if _, err := p.Add(t.Context(), modify(id, "user-1")); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(told) < 10 || len(told) > 80 || !told[0].Full || told[0].Acked != 0 {
			t.Errorf("told %d times: %+v", len(told), told)
		}
		if last := told[len(told)-1]; last.Full || last.Acked != 2 || len(acked) != 2 {
			t.Errorf("at the end %+v, acked %v", last, acked)
		}
	})
}

// An error of the log is final: nothing is sent after a gap.
func TestPackingStopsAtAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sent := 0
		s := fake(func(context.Context, string, []byte, string) error { sent++; return bus.ErrUnknownOutcome })
		p := s.NewPacker(PackOptions{MaxOps: 1, Window: 1})
		var err error
		for i := 0; err == nil && i < 10; i++ {
			_, err = p.Add(ctx, modify(strconv.Itoa(i), "user-1"))
		}
		if !errors.Is(err, context.DeadlineExceeded) || p.Err() == nil || p.Progress().Acked != 0 {
			t.Fatalf("%v", err)
		}
		was := sent
		if err := p.Flush(t.Context()); err == nil || sent != was {
			t.Error("sent more after the error")
		}
		if _, err := p.Add(t.Context(), modify("x", "user-1")); err == nil {
			t.Error("took more after the error")
		}
	})
}

func TestPackerRefusesOneOperation(t *testing.T) {
	l := newIntakeLog()
	p := fake(l.publish).NewPacker(PackOptions{})
	bad := modify("a", "user-1")
	bad.Params = json.RawMessage(`{}`)
	if _, err := p.Add(t.Context(), bad); code(err) != op.CodeBadParams || p.Err() != nil {
		t.Errorf("%v", err)
	}
	if id, err := p.Add(t.Context(), modify("", "user-1")); err != nil || id == "" {
		t.Errorf("%q, %v", id, err)
	}
	if err := p.Flush(t.Context()); err != nil || p.Progress().Acked != 1 {
		t.Errorf("%v, %+v", err, p.Progress())
	}
}

func TestPackedOperationsReachTheIntake(t *testing.T) {
	b := connect(t)
	p := New(Config{Bus: b}).NewPacker(PackOptions{MaxOps: 10, Trace: "00-t"})
	const n = 300
	for i := range n {
		if _, err := p.Add(t.Context(), modify(strconv.Itoa(i), fmt.Sprintf("user-%d", i%7))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := map[string]int{}
	all := intake(t, b)
	for _, o := range all {
		i, _ := strconv.Atoi(o.ID)
		if before, ok := last[o.Target]; ok && i <= before {
			t.Errorf("%s: %d after %d", o.Target, i, before)
		}
		last[o.Target] = i
		if o.trace != "00-t" {
			t.Errorf("trace %q", o.trace)
		}
	}
	if len(all) != n || messages(t, b) != uint64(p.Progress().Messages) {
		t.Errorf("%d operations in %d messages", len(all), messages(t, b))
	}
}

func BenchmarkPacker(b *testing.B) {
	p := New(Config{Bus: connect(b)}).NewPacker(PackOptions{})
	b.ReportAllocs()
	for i := range b.N {
		if _, err := p.Add(b.Context(), modify("op-"+strconv.Itoa(i), fmt.Sprintf("user-%d", i%1000))); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "operations/s")
}
