package bus_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// losing loses the delivery of one message of the intake, once.
func losing(seq int, lost *atomic.Bool) func(subject, reply string) bool {
	return func(_, reply string) bool {
		// $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.…
		t := strings.Split(reply, ".")
		return len(t) > 5 && t[1] == "ACK" && t[2] == bus.StreamIntake && t[5] == fmt.Sprint(seq) && lost.CompareAndSwap(false, true)
	}
}

// TestFeedMissesNothing loses a delivery: one with others behind it, the last
// one, and the last one before the line breaks.
func TestFeedMissesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		lose   int
		cut    bool
		within time.Duration
	}{
		"in the middle":       {3, false, 2 * time.Second},
		"at the end":          {5, false, 40 * time.Second},
		"with the connection": {5, true, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *natstest.Server, b *bus.Bus) {
				var lost atomic.Bool
				line := &faulty{to: s, lose: losing(c.lose, &lost)}
				f, err := open(t, line.connect(t)).Intake(t.Context(), bus.PartitionOf("a", 4), 0)
				must(t, err)
				time.Sleep(time.Second) // the feed waits for something to come
				for range 5 {
					_, err := b.Publish(t.Context(), bus.SubmitSubject("a"), nil, "", nil)
					must(t, err)
				}
				eventually(t, time.Second, "the loss", lost.Load)
				begin := time.Now()
				if c.cut {
					line.cut(false)
				}
				for want := uint64(1); want <= 5; want++ {
					select {
					case m := <-f.C():
						if m.Seq != want {
							t.Fatalf("sequence %d, want %d", m.Seq, want)
						}
					case <-time.After(time.Hour):
						t.Fatalf("sequence %d never came", want)
					}
				}
				if d := time.Since(begin); d > c.within {
					t.Errorf("complete after %s, want %s", d, c.within)
				}
			})
		})
	}
}

// TestMembersAfterAbsence has a member die while another is cut off for so long
// that the note of the death is gone.
func TestMembersAfterAbsence(t *testing.T) {
	bubble(t, func(t *testing.T, s *natstest.Server, b *bus.Bus) {
		line := &faulty{to: s}
		m, err := open(t, line.connect(t)).Join(t.Context(), "a", 2*time.Second)
		must(t, err)
		ctx, die := context.WithCancel(t.Context())
		_, err = b.Join(ctx, "b", 2*time.Second)
		must(t, err)
		waitMembers(t, time.Second, m, "a", "b")
		line.cut(true)
		die()
		time.Sleep(20 * time.Second)
		line.mend()
		eventually(t, 5*time.Second, "the lease taken anew", func() bool { return slices.Equal(m.Members(), []string{"a"}) })
		select {
		case <-m.Lost():
		default:
			t.Error("twenty seconds away, and nobody told us that our lease was lost")
		}
	})
}

// losingAnswers loses the answer to the next write of a lease once it is armed.
func losingAnswers(s *natstest.Server) (line *faulty, armed *atomic.Bool) {
	armed = &atomic.Bool{}
	var next atomic.Bool
	return &faulty{to: s, lose: func(subject, reply string) bool {
		if subject == "$KV.OPS_LEASES.resolver.a" && strings.HasPrefix(reply, "_INBOX.") && armed.CompareAndSwap(true, false) {
			next.Store(true)
		}
		return strings.HasPrefix(subject, "_INBOX.") && reply == "" && next.CompareAndSwap(true, false)
	}}, armed
}

// TestRenewalWithoutAnswer loses the answer to a renewal: the lease is ours all
// the same.
func TestRenewalWithoutAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, s *natstest.Server, _ *bus.Bus) {
		line, armed := losingAnswers(s)
		m, err := open(t, line.connect(t)).Join(t.Context(), "a", 2*time.Second)
		must(t, err)
		armed.Store(true)
		select {
		case <-m.Lost():
			t.Error("the lease was given up over an answer")
		case <-time.After(20 * time.Second):
		}
		if armed.Load() {
			t.Error("no answer was lost")
		}
	})
}

// TestJoinWithoutAnswer loses the answer that says we have joined.
func TestJoinWithoutAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, s *natstest.Server, _ *bus.Bus) {
		line, armed := losingAnswers(s)
		b := open(t, line.connect(t))
		armed.Store(true)
		begin := time.Now()
		_, err := b.Join(t.Context(), "a", 10*time.Second)
		must(t, err)
		if d := time.Since(begin); armed.Load() || d > 5*time.Second {
			t.Errorf("joined after %s: a lease of our own was waited for", d)
		}
	})
}

// TestSnapshotsNeverGoBack has a deposed owner stop between storing its
// snapshot and making it the one that counts, while its successor saves a later
// one.
func TestSnapshotsNeverGoBack(t *testing.T) {
	s, b := single(t, small())
	must(t, b.SaveSnapshot(t.Context(), 1, 1, 1, []byte("one")))
	var once atomic.Bool
	line := &faulty{to: s, lose: func(subject, _ string) bool {
		if subject == "$KV.OPS_MARKS.snapshot.1" && once.CompareAndSwap(false, true) {
			must(t, b.SaveSnapshot(t.Context(), 1, 9, 9, []byte("nine")))
		}
		return false
	}}
	must(t, open(t, line.connect(t)).SaveSnapshot(within(t, 10*time.Second), 1, 5, 5, []byte("five")))
	step, _, data, ok, err := b.LoadSnapshot(within(t, 10*time.Second), 1)
	if err != nil || !ok || step != 9 || string(data) != "nine" {
		t.Errorf("step %d, %q, %v, %v; want 9", step, data, ok, err)
	}
	if !once.Load() {
		t.Error("the deposed owner was not interrupted")
	}
}

// TestAppendWithoutAnswer loses the answer to an append that was stored, and an
// append that was not.
func TestAppendWithoutAnswer(t *testing.T) {
	for name, where := range map[string]string{"the append": "ops.journal.0", "the answer": "_INBOX."} {
		t.Run(name, func(t *testing.T) {
			s, b := single(t, small())
			var armed, lost atomic.Bool
			line := &faulty{to: s, lose: func(subject, _ string) bool {
				return strings.HasPrefix(subject, where) && armed.Load() && lost.CompareAndSwap(false, true)
			}}
			writer := open(t, line.connect(t))
			first := appendStep(t, writer, 0, "a", 0)
			armed.Store(true)
			second := appendStep(t, writer, 0, "b", first)
			appendStep(t, writer, 0, "c", second)
			var ids []string
			for e, err := range b.JournalRead(t.Context(), 0, 0) {
				must(t, err)
				ids = append(ids, e.ID)
			}
			if !lost.Load() || !slices.Equal(ids, []string{"a", "b", "c"}) {
				t.Errorf("journal %v, lost %v", ids, lost.Load())
			}
		})
	}
}

// An executor that is started while the cluster has no leader waits for one.
func TestWorkWithoutAnswer(t *testing.T) {
	natstest.Run(t, func(t *testing.T, s *natstest.Server) {
		_, err := bus.Setup(t.Context(), s.Connect(t), small())
		must(t, err)
		var lost atomic.Int32
		line := &faulty{to: s, lose: func(subject, _ string) bool {
			return strings.HasPrefix(subject, "$JS.API.CONSUMER.INFO."+bus.StreamWork) && lost.Add(1) <= 3
		}}
		b := open(t, line.connect(t))
		started := time.Now()
		f, err := b.Work(t.Context(), op.DefaultPool, 4)
		must(t, err)
		if d := time.Since(started); d < 10*time.Second || d > 20*time.Second {
			t.Errorf("three answers were lost, and it took %s", d)
		}
		offer(t, b, 1)
		w := <-f.C()
		w.Ack()
	})
}

// The bounds of the journal are asked for until somebody answers.
func TestBoundsWithoutAnswer(t *testing.T) {
	natstest.Run(t, func(t *testing.T, s *natstest.Server) {
		_, err := bus.Setup(t.Context(), s.Connect(t), small())
		must(t, err)
		var armed atomic.Bool
		var asked atomic.Int32
		line := &faulty{to: s, lose: func(subject, _ string) bool {
			return armed.Load() && strings.HasPrefix(subject, "$JS.API.STREAM.INFO."+bus.StreamJournal) && asked.Add(1) <= 2
		}}
		b := open(t, line.connect(t))
		seq := appendStep(t, b, 0, "a", 0)
		armed.Store(true)
		if first, last, err := b.JournalBounds(t.Context()); first != 1 || last != seq || err != nil || asked.Load() < 3 {
			t.Errorf("bounds %d and %d, %v, asked %d times, want 1 and %d", first, last, err, asked.Load(), seq)
		}
	})
}
