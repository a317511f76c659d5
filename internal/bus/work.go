package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// WorkItem is one granted attempt, to be started by one executor. Exactly one
// of Ack and Nak must be called in the end; without either it comes back to
// some executor after a minute.
type WorkItem struct {
	Subject   string
	Data      []byte
	Delivered int // 1 for the first delivery
	// Ack removes it for good, now or up to a second later. It is not waited for: an
	// acknowledgement that is lost brings the item back.
	Ack func()
	// Nak gives it back, to be delivered after delay.
	Nak func(delay time.Duration)
	// Touch puts off its return by another minute.
	Touch func()
}

// WorkFeed delivers granted attempts.
type WorkFeed struct {
	c   chan WorkItem
	mu  sync.Mutex
	err error
}

// C delivers the items. It is closed when the context ends or nothing can help;
// then see [WorkFeed.Err].
func (f *WorkFeed) C() <-chan WorkItem { return f.c }

// Err says why C was closed; nil before that and when the context ended.
func (f *WorkFeed) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Work takes part in the queue that the executors of a pool share, with at most
// maxInFlight items that are neither acknowledged nor given back. A few more may
// wait inside the client: fewer than maxInFlight, so that work spreads over
// executors. The first executor of a pool makes its consumer; what was granted to
// the pool before waits in the stream. While nobody answers Work repeats itself
// until ctx ends.
func (b *Bus) Work(ctx context.Context, pool string, maxInFlight int) (*WorkFeed, error) {
	if !op.Token(pool) {
		return nil, fmt.Errorf("bus: work: pool %.80q is not a token", pool)
	}
	if maxInFlight < 1 {
		return nil, fmt.Errorf("bus: work: at most %d in flight is no work at all", maxInFlight)
	}
	cons, err := b.patientConsumer(ctx, pool)
	if err != nil {
		return nil, notSetUp("work", err)
	}
	f := &WorkFeed{c: make(chan WorkItem)}
	t := &tenure{room: make(chan struct{}, maxInFlight)}
	context.AfterFunc(ctx, t.end)
	go func() {
		err := b.work(ctx, cons, min(max(maxInFlight/4, 1), 500), t, f.c)
		if ctx.Err() != nil {
			err = nil
		}
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
		close(f.c)
	}()
	return f, nil
}

// patientConsumer is workConsumer for a cluster that may be without a leader: an
// executor that is started then must not give up.
func (b *Bus) patientConsumer(ctx context.Context, pool string) (cons jetstream.Consumer, err error) {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, consumerCreate)
		cons, err = b.workConsumer(attempt, pool)
		cancel()
		if err == nil || hopeless(err) || ctx.Err() != nil || pause(ctx, n) != nil {
			return cons, err
		}
	}
}

// workConsumer finds a pool's consumer or makes it. One that is there stays as it
// is: to change it is for [Setup] or an operator.
func (b *Bus) workConsumer(ctx context.Context, pool string) (jetstream.Consumer, error) {
	cons, err := b.js.Consumer(ctx, StreamWork, WorkConsumer(pool))
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return cons, err
	}
	cons, err = b.js.CreateConsumer(ctx, StreamWork, b.layout.workConsumer(pool))
	if errors.Is(err, jetstream.ErrConsumerExists) { // another executor of the pool was faster, and has other defaults
		return b.js.Consumer(ctx, StreamWork, WorkConsumer(pool))
	}
	return cons, err
}

// work pulls until ctx ends, beginning again when the pull is lost: with the
// server, or with the consumer's leader.
func (b *Bus) work(ctx context.Context, cons jetstream.Consumer, batch int, t *tenure, out chan<- WorkItem) error {
	for n := 0; ; n++ {
		got, err := b.pullWork(ctx, cons, batch, t, out)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if b.nc.IsClosed() || errors.Is(err, jetstream.ErrConsumerDeleted) {
			return fmt.Errorf("bus: work: %w", err)
		}
		if got {
			n = 0
		}
		if err := pause(ctx, n); err != nil {
			return err
		}
	}
}

func (b *Bus) pullWork(ctx context.Context, cons jetstream.Consumer, batch int, t *tenure, out chan<- WorkItem) (got bool, err error) {
	it, err := cons.Messages(jetstream.PullMaxMessages(batch), jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(pullHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return false, err
	}
	defer giveBack(it)
	defer context.AfterFunc(ctx, it.Drain)()
	for {
		select {
		case t.room <- struct{}{}:
		case <-ctx.Done():
			return got, ctx.Err()
		}
		m, err := it.Next()
		if err != nil {
			<-t.room
			return got, err
		}
		got = true
		failWork.Hit()
		select {
		case out <- t.item(m):
		case <-ctx.Done():
			_ = m.Nak() // at once to somebody else; if it is lost, after AckWait
			return got, ctx.Err()
		}
	}
}

// giveBack ends the pull and returns what was fetched ahead, so that somebody
// else has it now and not after AckWait: the attempts' leases are running.
func giveBack(it jetstream.MessagesContext) {
	it.Drain()
	for {
		m, err := it.Next()
		if err != nil {
			it.Stop()
			return
		}
		_ = m.Nak()
	}
}

// tenure is what the items of one feed share.
type tenure struct {
	room chan struct{} // a place for each that is neither acknowledged nor given back

	// The newest acknowledgement is held back until another one takes its place,
	// or for holdAck. The server keeps a queue in files, and for one that runs empty
	// it makes a new file and removes the old one, with the stream locked: half a
	// millisecond of one processor here, and without this an execution when there is
	// little to do. An item that comes back because a process died meanwhile is known
	// to be over by its record.
	mu    sync.Mutex
	held  func()
	timer *time.Timer
	ended bool
}

const holdAck = time.Second

// ack holds one acknowledgement back and gives the one before.
func (t *tenure) ack(give func()) {
	t.mu.Lock()
	before := t.held
	switch {
	case t.ended:
		before = give
	case t.timer == nil:
		t.held, t.timer = give, time.AfterFunc(holdAck, t.release)
	default:
		t.held = give
		t.timer.Reset(holdAck)
	}
	t.mu.Unlock()
	if before != nil {
		before()
	}
}

// release gives what is held back.
func (t *tenure) release() {
	t.mu.Lock()
	give := t.held
	t.held = nil
	t.mu.Unlock()
	if give != nil {
		give()
	}
}

// end has nothing held back any more.
func (t *tenure) end() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.release()
}

func (t *tenure) item(m jetstream.Msg) WorkItem {
	leave := sync.OnceFunc(func() { <-t.room })
	w := WorkItem{
		Subject: m.Subject(), Data: m.Data(), Delivered: 1,
		Touch: func() { _ = m.InProgress() },
	}
	w.Ack = func() {
		leave()
		// An acknowledgement fails when the connection is closed or was given
		// twice; either way the item comes back or is gone already.
		t.ack(func() { _ = aroundErr(failWorkAck, m.Ack) })
	}
	w.Nak = func(delay time.Duration) {
		if delay > 0 {
			_ = m.NakWithDelay(delay)
		} else {
			_ = m.Nak()
		}
		leave()
	}
	if md, err := m.Metadata(); err == nil {
		w.Delivered = int(md.NumDelivered)
	}
	return w
}
