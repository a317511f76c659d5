package executor

import (
	"context"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// recorded is what the record says of attempt 2, and whether the attempt runs
// when that is asked.
var recorded = []struct {
	name, record string
	runs         bool
}{
	{"no record", "", true},
	{"lags", `{"status":"PENDING","attempt":1}`, true},
	{"current", `{"status":"EXECUTING","attempt":2}`, true},
	{"lapsed", `{"status":"PENDING","attempt":2}`, false},
	{"granted anew", `{"status":"EXECUTING","attempt":3}`, false},
	{"ended", `{"status":"SUCCEEDED","attempt":2}`, false},
	{"unreadable", `?`, true},
}

// A redelivered attempt is not run when its record says that it is over, and is
// run when the record cannot say so.
func TestRedelivered(t *testing.T) {
	for _, c := range recorded {
		t.Run(c.name, func(t *testing.T) {
			b := real(t)
			w := work("a")
			w.Attempt = 2
			offer(t, b, w)
			ctx, cancel := context.WithCancel(t.Context())
			feed, err := b.Work(ctx, op.DefaultPool, 1)
			if err != nil {
				t.Fatal(err)
			}
			once := take(t, feed.C())
			cancel()
			for range feed.C() {
			}
			once.Nak(0) // when nobody pulls: a message on its way to who has stopped waits for AckWait
			ranIf(t, b, c.record, c.runs)
		})
	}
}

// So it is with an attempt that has waited in the queue until its lease was over.
func TestTakenAfterItsLease(t *testing.T) {
	for _, c := range recorded {
		t.Run(c.name, func(t *testing.T) {
			b := real(t)
			w := work("a")
			w.Attempt, w.LeaseEnds = 2, time.Now().Add(-time.Second)
			offer(t, b, w)
			ranIf(t, b, c.record, c.runs)
		})
	}
}

// ranIf starts an executor for the one attempt in the queue.
func ranIf(t *testing.T, b *bus.Bus, record string, runs bool) {
	t.Helper()
	if record != "" {
		write(t, b, bus.RecordMsg("a", []byte(record)))
	}
	got := owner(t, b, 1, accept)
	r := start(t, Config{Bus: b})
	if runs {
		take(t, got)
	}
	empty(t, b)
	if n := r.stats.Superseded.Load(); (n == 0) != runs || len(got) > 0 {
		t.Errorf("superseded %d, reports %d", n, len(got))
	}
}

// Within its lease, work that comes for the first time is run without asking.
func TestFirstDeliveryIsNotLookedUp(t *testing.T) {
	b := real(t)
	w := work("a")
	w.Attempt = 2
	offer(t, b, w)
	ranIf(t, b, `{"status":"EXECUTING","attempt":3}`, true)
}
