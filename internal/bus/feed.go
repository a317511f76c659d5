package bus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// The pulls of a feed. With the client's defaults a feed stalls for half a
// minute after its consumer's server went away; these find out in two seconds.
const (
	pullExpiry    = 5 * time.Second
	pullHeartbeat = time.Second
	// consumerIdle is how long the server keeps a consumer that nobody pulls.
	consumerIdle = 30 * time.Second
	// consumerCreate bounds the creation of one, which with replicas needs the
	// cluster's leader.
	consumerCreate = 5 * time.Second
	// auditInterval is how often a feed asks whether anything got lost. What is
	// missing at two looks in a row is.
	auditInterval = 15 * time.Second
)

// feedConfig says what a feed delivers.
type feedConfig struct {
	stream  string
	filters []string                // none: everything
	policy  jetstream.DeliverPolicy // where to begin, unless after is set
	after   uint64                  // with DeliverByStartSequencePolicy: the sequence before the first
	since   time.Time               // with DeliverByStartTimePolicy
	batch   int                     // messages a pull; bounds memory
	hb      time.Duration           // heartbeat, default pullHeartbeat
	// begin is told how many messages wait each time a consumer was created;
	// false ends the feed. Optional.
	begin func(pending uint64) bool
	// idle ends the feed with errIdle when nothing came for so long after the
	// server had said that nothing waits. 0: never.
	idle time.Duration
}

// errIdle ends a feed that has been at the end of its stream for a while.
var errIdle = errors.New("bus: nothing more came")

// delivery is one message of a feed.
type delivery struct {
	jetstream.Msg
	seq     uint64
	pending uint64 // messages waiting behind this one, as its server knew
	time    time.Time
}

// feed passes the messages of a stream to yield, in order, each exactly once,
// until yield returns false (nil), ctx ends (its error) or nothing can help.
//
// The ordered consumer of the client library does the same, but waits between
// attempts with patience of its own and without a context.
func (b *Bus) feed(ctx context.Context, cfg feedConfig, yield func(delivery) bool) error {
	f := &feed{b: b, cfg: cfg, last: cfg.after}
	for n := 0; ; n++ {
		before := f.last
		more, err := f.run(ctx, yield)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !more:
			return err
		}
		if f.last > before {
			n = 0
		}
		if err := pause(ctx, n); err != nil {
			return err
		}
	}
}

type feed struct {
	b    *Bus
	cfg  feedConfig
	last uint64 // stream sequence of the last message passed on, or where to begin
	seen bool   // something was passed on
	gone int    // how often in a row the stream was not found
}

// run lives as long as one consumer. more: begin again behind f.last.
func (f *feed) run(ctx context.Context, yield func(delivery) bool) (more bool, err error) {
	cons, err := f.create(ctx)
	if err != nil {
		return f.hopeful(err)
	}
	f.gone = 0
	name := cons.CachedInfo().Name
	defer f.drop(name)
	pending := cons.CachedInfo().NumPending
	if f.cfg.begin != nil && !f.cfg.begin(pending) {
		return false, nil
	}
	hb := f.cfg.hb
	if hb == 0 {
		hb = pullHeartbeat
	}
	it, err := cons.Messages(jetstream.PullMaxMessages(f.cfg.batch), jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(hb), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return f.hopeful(err)
	}
	defer it.Stop()
	defer context.AfterFunc(ctx, it.Stop)()
	var delivered atomic.Uint64
	defer f.guard(ctx, cons, it, &delivered)()
	var wait []jetstream.NextOpt
	for want := uint64(1); ; want++ {
		wait = wait[:0]
		if f.cfg.idle > 0 && pending == 0 {
			wait = append(wait, jetstream.NextMaxWait(f.cfg.idle))
		}
		m, err := it.Next(wait...)
		if errors.Is(err, nats.ErrTimeout) && len(wait) > 0 {
			return false, errIdle
		}
		if err != nil {
			return f.hopeful(err)
		}
		md, err := m.Metadata()
		if err != nil {
			return false, fmt.Errorf("bus: feed of %s: %w", f.cfg.stream, err)
		}
		if md.Consumer != name || md.Sequence.Consumer != want {
			return true, nil // a delivery is missing: ask for it again
		}
		delivered.Store(want)
		pending = md.NumPending
		f.last, f.seen = md.Sequence.Stream, true
		if !yield(delivery{Msg: m, seq: md.Sequence.Stream, pending: md.NumPending, time: md.Timestamp}) {
			return false, nil
		}
	}
}

// guard ends the iterator when a delivery may have been lost with nothing behind
// it to show the gap: after a reconnect, or when the server says that it has
// delivered more than arrived (a broken route does that). The function returned
// ends the guard.
func (f *feed) guard(ctx context.Context, cons jetstream.Consumer, it jetstream.MessagesContext, delivered *atomic.Uint64) func() {
	ctx, cancel := context.WithCancel(ctx)
	connected := f.b.nc.StatusChanged(nats.CONNECTED)
	go func() {
		defer f.b.nc.RemoveStatusListener(connected)
		tick := time.NewTicker(auditInterval)
		defer tick.Stop()
		missing := uint64(0) // what had not arrived at the last look
		for {
			select {
			case <-ctx.Done():
				return
			case <-connected:
				it.Stop()
				return
			case <-tick.C:
			}
			have := delivered.Load()
			if missing > have {
				it.Stop()
				return
			}
			missing = 0
			if info, err := cons.Info(ctx); err == nil && info.Delivered.Consumer > have {
				missing = have + 1
			}
		}
	}()
	return cancel
}

func (f *feed) create(ctx context.Context) (jetstream.Consumer, error) {
	cfg := jetstream.ConsumerConfig{
		Name:              "feed_" + nuid.Next(),
		Description:       "Ordered feed; goes away with its reader.",
		FilterSubjects:    f.cfg.filters,
		DeliverPolicy:     f.cfg.policy,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: consumerIdle,
		MemoryStorage:     true,
		Replicas:          1,
		Metadata:          map[string]string{metaSchema: schema},
	}
	switch {
	case f.seen, cfg.DeliverPolicy == jetstream.DeliverByStartSequencePolicy:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, f.last+1
	case cfg.DeliverPolicy == jetstream.DeliverByStartTimePolicy:
		cfg.OptStartTime = &f.cfg.since
	}
	ctx, cancel := context.WithTimeout(ctx, consumerCreate)
	defer cancel()
	return f.b.js.CreateConsumer(ctx, f.cfg.stream, cfg)
}

// hopeful decides whether err is worth another attempt.
func (f *feed) hopeful(err error) (more bool, _ error) {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		// A server that has just started may not know its streams yet.
		if f.gone++; f.gone < 20 {
			return true, nil
		}
		return false, notSetUp("feed of "+f.cfg.stream, err)
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && hopeless(err) && api.ErrorCode != jetstream.JSErrCodeConsumerNotFound || f.b.nc.IsClosed() {
		return false, fmt.Errorf("bus: feed of %s: %w", f.cfg.stream, err)
	}
	return true, nil
}

// drop tells the server that the consumer is done with. Nobody waits for the
// answer: left alone it goes away after consumerIdle.
func (f *feed) drop(name string) {
	subject := apiPrefix + "CONSUMER.DELETE." + f.cfg.stream + "." + name
	_ = f.b.nc.PublishRequest(subject, f.b.nc.NewInbox(), nil)
}
