package resolver

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// While a partition has not consumed what stands before the child, nobody knows
// that an ancestor is unknown, however long that takes.
func TestASearchNeverGuesses(t *testing.T) {
	natstest.Run(t, func(t *testing.T, s *natstest.Server) {
		nc := s.Connect(t)
		layout := bus.DefaultLayout()
		layout.Partitions = 1
		if _, err := bus.Setup(t.Context(), nc, layout); err != nil {
			t.Fatal(err)
		}
		b, err := bus.Open(t.Context(), nc)
		if err != nil {
			t.Fatal(err)
		}
		ack, err := b.Publish(t.Context(), bus.SubmitSubject("parent"), []byte("{}"), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		k := newKinship(onBus{b}, realWorld())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answers := make(chan arbiter.Kin, 2)
		go k.find(ctx, []string{"p1", "nobody"}, ack.Seq+1, func(v arbiter.Kin) { answers <- v })
		<-time.After(10 * time.Minute) // of the bubble's time
		synctest.Wait()
		if len(answers) > 0 {
			t.Fatalf("%+v, while the partition has no owner", <-answers)
		}
		k.add(&op.Operation{ID: "p1", Priority: op.High})
		if v := <-answers; v.OpID != "p1" || v.Unknown || v.Priority != op.High {
			t.Errorf("the parent: %+v", v)
		}
		k.passed(0, reached{cursor: ack.Seq + 1, told: func() uint64 { return 0 }})
		if v := <-answers; v.OpID != "nobody" || !v.Unknown || v.Upto != ack.Seq+1 {
			t.Errorf("nobody: %+v", v)
		}
	})
}

// ahead is a log in which another process has consumed and trimmed what it has
// not told yet.
type ahead struct {
	Log
	mark  uint64
	asked int
}

func (a *ahead) Layout() bus.Layout { return bus.Layout{Partitions: 1} }

func (a *ahead) LastIntake(context.Context, int) (uint64, error) { return 0, nil }

func (a *ahead) JournalLast(context.Context, int) (bus.Entry, bool, error) {
	return bus.Entry{Seq: 9, Data: []byte(`{"step":5,"cursor":11}`)}, true, nil
}

func (a *ahead) Mark(context.Context, int) (uint64, error) { return a.mark, nil }

func (a *ahead) Record(context.Context, string) (data []byte, found bool, err error) {
	if a.mark < 5 {
		return nil, false, nil
	}
	return []byte(`{"op_id":"p1","priority":8}`), true, nil
}

// What another process has consumed is trimmed from the intake before it is told:
// an ancestor in it is not unknown.
func TestAnAncestorThatWasTrimmedBeforeItWasToldIsFound(t *testing.T) {
	log := &ahead{mark: 3}
	world := realWorld()
	world.Sleep = func(context.Context, time.Duration) error {
		if log.asked++; log.asked == 3 {
			log.mark = 5
		}
		return nil
	}
	look := func(k *kinship) {
		log.mark, log.asked = 3, 0
		var found []arbiter.Kin
		k.find(t.Context(), []string{"p1"}, 12, func(v arbiter.Kin) { found = append(found, v) })
		if len(found) != 1 || found[0].Unknown || found[0].Priority != op.High {
			t.Errorf("%+v", found)
		}
	}
	look(newKinship(log, world))
	deposed := newKinship(log, world) // it believes that the partition is its own, at an earlier step
	deposed.passed(0, reached{cursor: 7, seq: 8})
	look(deposed)
}

// late is a log whose view shows an operation only once it is told.
type late struct {
	Log
	told atomic.Uint64 // the last step that the view shows
}

func (l *late) Layout() bus.Layout { return bus.Layout{Partitions: 1} }

func (l *late) Record(_ context.Context, id string) (data []byte, found bool, err error) {
	if l.told.Load() < 5 {
		return nil, false, nil
	}
	data, err = op.Marshal(op.Record{OpID: id, Priority: op.High})
	return data, true, err
}

// A burst is consumed faster than it is told. What the directory has let go of is
// not unknown as long as the views may not show it yet.
func TestABurstLosesNoParents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(late)
		k := newKinship(l, realWorld())
		for i := range directorySize + 1 { // the first one goes
			k.add(&op.Operation{ID: "p" + strconv.Itoa(i), Priority: op.High})
		}
		k.passed(0, reached{cursor: 20, seq: 9, step: 5, told: l.told.Load})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answers := make(chan arbiter.Kin, 2)
		go k.find(ctx, []string{"p0", "p1"}, 11, func(v arbiter.Kin) { answers <- v })
		if v := <-answers; v.OpID != "p1" || v.Unknown {
			t.Errorf("one that is still there: %+v", v)
		}
		<-time.After(10 * time.Minute) // of the bubble's time
		synctest.Wait()
		if len(answers) > 0 {
			t.Fatalf("%+v, and it is not told yet", <-answers)
		}
		l.told.Store(5)
		if v := <-answers; v.OpID != "p0" || v.Unknown || v.Priority != op.High {
			t.Errorf("once it is told: %+v", v)
		}
	})
}

// ends is a log of one partition, as far as its ends go.
type ends struct {
	Log
	intake  func() uint64 // 0: nothing is left of it
	journal uint64        // 0: nobody has ever owned the partition
}

func (e *ends) LastIntake(context.Context, int) (uint64, error) { return e.intake(), nil }

func (e *ends) JournalLast(context.Context, int) (bus.Entry, bool, error) {
	return bus.Entry{Seq: e.journal}, e.journal > 0, nil
}

// A partition has passed a place once nothing before it can still become an
// operation that nobody finds.
func TestWhenAPartitionHasPassed(t *testing.T) {
	const place = 12
	told := uint64(0)
	at := func(cursor, seq, step uint64) reached {
		return reached{cursor: cursor, seq: seq, step: step, told: func() uint64 { return told }}
	}
	l := new(ends)
	k := newKinship(l, realWorld())
	s := &search{place: place}
	passed := func(t *testing.T, want bool) {
		t.Helper()
		got, err := k.passedBy(t.Context(), s, 0)
		if err != nil || got != want {
			t.Errorf("passed %t, want %t: %v", got, want, err)
		}
	}
	begin := func(intake func() uint64, journal uint64) {
		*l, told = ends{intake: intake, journal: journal}, 0
		s.step = map[int]uint64{}
		k.gone(0)
	}
	is := func(seq uint64) func() uint64 { return func() uint64 { return seq } }

	t.Run("nobody has ever owned it", func(t *testing.T) {
		begin(is(0), 0)
		passed(t, true)
		l.intake = is(3)
		passed(t, false)
	})
	t.Run("it is ours, and beyond the place", func(t *testing.T) {
		begin(is(20), 9)
		k.passed(0, at(20, 9, 5))
		passed(t, false)
		told = 5
		passed(t, true)
	})
	t.Run("the journal is read from a leader of the past", func(t *testing.T) {
		begin(is(0), 9)
		k.passed(0, at(7, 12, 5))
		told = 5
		passed(t, false)
		l.journal = 12
		passed(t, true)
	})
	t.Run("it consumes and trims while it is asked for", func(t *testing.T) {
		begin(func() uint64 {
			k.passed(0, at(7, 13, 6))
			return 0
		}, 13)
		k.passed(0, at(5, 12, 5))
		told = 5
		passed(t, false)
		told = 6
		passed(t, true)
	})
}
