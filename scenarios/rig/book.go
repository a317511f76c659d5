package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Book is the client's own account of a load: what was acknowledged to it, and what
// it does not know about. It believes nobody else.
type Book struct {
	r       *Rig
	name    string
	targets int
	start   time.Time
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu        sync.Mutex
	acked     []string
	at        []time.Duration // of the acknowledgements, since the start
	ambiguous []string        // nobody said what became of them, and they were not sent again
	refused   []string        // with a definite answer
	stopped   time.Duration
}

// Load starts clients who submit contended operations until [Book.Stop]: each waits
// for its acknowledgement, and for nothing longer than three seconds. Every conn
// serves the same number of them.
func (r *Rig) Load(name string, clients int, conns ...*nats.Conn) *Book {
	r.T.Helper()
	const targets = 20
	b := &Book{r: r, name: name, targets: targets, start: time.Now()}
	for i := range targets {
		b.create(i)
	}
	ctx, cancel := context.WithCancel(r.T.Context())
	b.cancel = cancel
	for i := range clients {
		own, err := bus.Open(ctx, conns[i%len(conns)])
		if err != nil {
			r.T.Fatal(err)
		}
		b.wg.Go(func() { b.client(ctx, own, i) })
	}
	r.T.Cleanup(func() { b.Stop() })
	return b
}

func (b *Book) target(i int) string { return fmt.Sprintf("%s-t%d", b.name, i%b.targets) }

func (b *Book) create(i int) {
	id := fmt.Sprintf("%s-make-%d", b.name, i)
	body := fmt.Sprintf(`{"op_id":%q,"op_type":"create_entity","priority":10,"on_conflict":"queue","params":{"fields":{"n":0}}}`, id)
	b.r.Eventually(30*time.Second, "an entity to be created", func() bool {
		_, err := b.r.Bus.Publish(b.r.T.Context(), bus.SubmitSubject(b.target(i)), []byte(body), id, nil)
		return err == nil
	})
	b.note(id, nil)
}

// pace is how often a client submits, at most: less than a busy machine resolves, so
// that what there is to wait for after a fault is due to the fault.
const pace = 100 * time.Millisecond

// client submits one operation after the other, each under an id of its own.
func (b *Book) client(ctx context.Context, own *bus.Bus, i int) {
	conflict := []op.Conflict{op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		id := fmt.Sprintf("%s-%d-%d", b.name, i, n)
		body := fmt.Sprintf(`{"op_id":%q,"op_type":"complex_update","priority":%d,"on_conflict":%q,"params":{"increment":{"n":1}}}`,
			id, 1+(n*7+i)%10, conflict[(n+i)%3])
		// The request outlives the load, so that its outcome is one of those below.
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		_, err := own.Publish(try, bus.SubmitSubject(b.target(n/5+3*i)), []byte(body), id, nil)
		cancel()
		b.note(id, err)
	}
}

func (b *Book) note(id string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		b.acked = append(b.acked, id)
		b.at = append(b.at, time.Since(b.start))
	case errors.Is(err, bus.ErrUnknownOutcome):
		b.ambiguous = append(b.ambiguous, id)
	default:
		b.refused = append(b.refused, id)
	}
}

// Acked is how many acknowledgements there were so far.
func (b *Book) Acked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.acked)
}

// AwaitMore returns when there were so many more acknowledgements.
func (b *Book) AwaitMore(n int, patience time.Duration) time.Duration {
	b.r.T.Helper()
	began, want := time.Now(), b.Acked()+n
	b.r.Eventually(patience, fmt.Sprintf("%d more acknowledgements", n), func() bool { return b.Acked() >= want })
	return time.Since(began)
}

// Stop ends the load. Calling it twice is fine.
func (b *Book) Stop() {
	b.cancel()
	b.wg.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped == 0 {
		b.stopped = time.Since(b.start)
	}
}

// file writes the book as `hierarchy verify --acks` reads it.
func (b *Book) file() string {
	b.r.T.Helper()
	var text bytes.Buffer
	for outcome, ids := range map[string][]string{"acknowledged": b.acked, "unknown": b.ambiguous, "refused": b.refused} {
		for _, id := range ids {
			fmt.Fprintf(&text, "{\"op_id\":%q,\"outcome\":%q}\n", id, outcome)
		}
	}
	path := filepath.Join(b.r.logs, b.name+"-acks.jsonl")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		b.r.T.Fatal(err)
	}
	return path
}

// gap is the longest time without an acknowledgement.
func (b *Book) gap() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.Sort(b.at)
	longest, last := time.Duration(0), time.Duration(0)
	for _, at := range append(slices.Clone(b.at), b.stopped) {
		longest, last = max(longest, at-last), at
	}
	return longest
}

// Balance is what became of a load.
type Balance struct {
	Acked     int `json:"acknowledged"`
	Lost      int `json:"acknowledged_lost"` // neither on record nor anywhere else
	Open      int `json:"acknowledged_open"` // on record, and not at an end in time
	Ambiguous int `json:"ambiguous"`
	Stored    int `json:"ambiguous_stored"` // the rest never were
	Refused   int `json:"refused"`
	Succeeded int `json:"succeeded"`
	Effects   int `json:"effects"` // that the entities count; one for each that succeeded

	Gap   time.Duration `json:"longest_gap"`     // without an acknowledgement, in nanoseconds
	Quiet time.Duration `json:"until_quiescent"` // from the end of the load until everything had ended
}

// patience bounds the waiting for what was acknowledged to end, without any
// progress.
const patience = 20 * time.Second

// Settle stops the load, waits until everything acknowledged has ended, or nothing
// moves any more, and compares the book with what the system says.
func (b *Book) Settle() Balance {
	b.r.T.Helper()
	b.Stop()
	began := time.Now()
	ends, moved := map[string]op.Status{}, time.Now()
	for open := -1; open != 0 && time.Since(moved) < patience; {
		now := b.r.records(b.name + "-")
		left := 0
		for _, id := range b.acked {
			if !now[id].Terminal() {
				left++
			}
		}
		for _, id := range b.ambiguous { // what was stored has to end, too
			if s, ok := now[id]; ok && !s.Terminal() {
				left++
			}
		}
		if left != open || len(now) != len(ends) {
			moved = time.Now()
		}
		open, ends = left, now
		if open > 0 {
			After(b.r.T, 100*time.Millisecond)
		}
	}
	bal := Balance{
		Acked: len(b.acked), Ambiguous: len(b.ambiguous), Refused: len(b.refused), Gap: b.gap(), Quiet: time.Since(began),
	}
	for _, id := range b.acked {
		switch s, found := ends[id]; {
		case !found:
			bal.Lost++
		case !s.Terminal():
			bal.Open++
		}
	}
	for _, id := range b.ambiguous {
		if _, found := ends[id]; found {
			bal.Stored++
		}
	}
	for _, s := range ends {
		if s == op.Succeeded {
			bal.Succeeded++
		}
	}
	bal.Effects = b.effects()
	return bal
}

// effects counts what the entities know: creation and increments; -1 where they
// cannot be read.
func (b *Book) effects() (sum int) {
	b.r.T.Helper()
	for i := range b.targets {
		ctx, cancel := context.WithTimeout(b.r.T.Context(), 10*time.Second)
		data, found, err := b.r.Bus.Entity(ctx, b.target(i))
		cancel()
		if err != nil {
			return -1
		}
		if !found {
			continue // its creation is lost
		}
		var e struct {
			Fields struct {
				N int `json:"n"`
			} `json:"fields"`
		}
		if err := json.Unmarshal(data, &e); err != nil {
			b.r.T.Fatal(err)
		}
		sum += 1 + e.Fields.N
	}
	return sum
}

// records are the statuses on record of all operations whose ids start so; none
// where they cannot be read at the moment.
func (r *Rig) records(prefix string) map[string]op.Status {
	r.T.Helper()
	found := map[string]op.Status{}
	ctx, cancel := context.WithTimeout(r.T.Context(), 10*time.Second)
	defer cancel()
	for kv, err := range r.Bus.Records(ctx) {
		if err != nil {
			break // what is missing is read the next time
		}
		if !strings.HasPrefix(kv.Key, prefix) {
			continue
		}
		var rec op.Record
		if err := json.Unmarshal(kv.Value, &rec); err != nil {
			r.T.Fatal(err)
		}
		found[kv.Key] = rec.Status
	}
	return found
}
