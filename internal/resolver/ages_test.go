package resolver

import (
	"fmt"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// The oldest pending operation is found among thousands that have ended, which
// are not kept for long.
func TestTheOldestPendingOperationIsFound(t *testing.T) {
	m := arbiter.New(0)
	var a ages
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	step := func(n int, in ...arbiter.Input) {
		m.Step(&arbiter.Step{ID: fmt.Sprint(n), Number: uint64(n), At: at, In: in})
	}
	submit := func(n int) {
		at = at.Add(time.Millisecond)
		o := op.Operation{ID: fmt.Sprint("o", n), Type: op.TypeVersion, Target: fmt.Sprint("t", n), Priority: op.Normal}
		step(2*n, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: uint64(n)}, Operation: o}})
		a.add(m, o.ID, at)
	}
	cancel := func(n int) {
		step(2*n+1, arbiter.Input{Cancel: &arbiter.Cancel{Target: fmt.Sprint("t", n), OpID: fmt.Sprint("o", n)}})
	}
	waits := arbiter.DefaultPolicy()
	waits.StagingWindow = time.Hour
	step(1, arbiter.Input{Policy: &waits})
	submit(1)
	oldest := at
	for n := 2; n < 5000; n++ {
		submit(n)
		cancel(n)
	}
	if got, ok := a.oldest(m); !ok || got != oldest || m.Open() != 1 {
		t.Errorf("the oldest of %d is of %s, want %s", m.Open(), got, oldest)
	}
	if len(a.queue) > 2000 {
		t.Errorf("%d operations are kept, of which one is open", len(a.queue))
	}
	submit(5000)
	next := at
	cancel(1)
	if got, ok := a.oldest(m); !ok || got != next {
		t.Errorf("after it has ended: %s, %v, want %s", got, ok, next)
	}
	cancel(5000)
	if got, ok := a.oldest(m); ok {
		t.Errorf("of none: %s", got)
	}
}
