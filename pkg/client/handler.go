package client

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// DefaultConcurrency is how many events a subscription handles at once, unless
// [Concurrency] says otherwise.
const DefaultConcurrency = 8

// Bounds of what a subscription tries again.
const (
	// maxTries is how often an event is given to a handler that fails on it. The
	// next one would fail as well, and it must not come back for ever.
	maxTries = 5
	// firstHold and lastHold are between two tries.
	firstHold = 200 * time.Millisecond
	lastHold  = 30 * time.Second
	// maxParked is how many answers may wait for their time without taking the
	// place of an event that could be handled.
	maxParked = 1000
)

// HandlerOption says how a subscription works.
type HandlerOption func(*handlers)

// Named makes a subscription durable: it goes on where the one of the same name
// ended, also in another process, and several of one name share the events between
// them. Each event is delivered at least once. A name is 1 to 48 characters out of
// A-Z a-z 0-9 _ -, and it stays known until [Client.Forget]. Without a name, a
// subscription begins with what happens after it was made, and what happens while
// nobody listens is not told.
func Named(name string) HandlerOption { return func(s *handlers) { s.name = name } }

// Concurrency is how many events are handled at once. With 1 they are handled in
// the order of the feed, as long as none has to be tried again.
func Concurrency(n int) HandlerOption { return func(s *handlers) { s.slots = max(n, 1) } }

// handlers are the options of a subscription.
type handlers struct {
	name  string
	slots int
}

// Subscription is a handler at work. Its methods may be called from any goroutine.
type Subscription struct {
	c      *Client
	name   string
	handle func(context.Context, *delivery) error
	slots  chan struct{}
	parked chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
	wg     sync.WaitGroup

	mu   sync.Mutex
	told recent          // events that were dealt with
	busy map[string]bool // events that are being dealt with
	err  error
}

// delivery is one event on its way to a handler.
type delivery struct {
	event op.Event
	tries int // 1 for the first
	// park waits without taking the place of another event; false: the
	// subscription ends.
	park func(time.Duration) bool
	// ack says that the event is dealt with, nak that it is to come back, and
	// touch that it is being worked on. They may be nil, for a feed that does not
	// bring anything back.
	ack   func()
	nak   func(time.Duration)
	touch func()
}

// On has handle called for the events that o selects, until ctx ends or
// [Subscription.Stop]. It returns when the subscription has begun. A handler that
// returns an error, or panics, gets the event again, with growing pauses, at most
// five times in all; then the logger is told ([WithLogger]) and the event is let
// go. An event that the system tells twice is handled once; one that a process did
// not finish before it died is handled again, so a handler has to bear that.
//
// With a name, FromSeq and Since count for the first subscription of that name
// only.
func (c *Client) On(ctx context.Context, o WatchOptions, handle func(context.Context, op.Event) error, opts ...HandlerOption) (*Subscription, error) {
	return c.subscribe(ctx, &o, opts, func(ctx context.Context, d *delivery) error { return handle(ctx, d.event) })
}

func (c *Client) subscribe(ctx context.Context, o *WatchOptions, opts []HandlerOption, handle func(context.Context, *delivery) error) (*Subscription, error) {
	set := handlers{slots: DefaultConcurrency}
	for _, f := range opts {
		f(&set)
	}
	from, err := c.begin(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &Subscription{
		c: c, name: set.name, handle: handle, slots: make(chan struct{}, set.slots), parked: make(chan struct{}, maxParked),
		done: make(chan struct{}), busy: map[string]bool{},
	}
	read := s.live(from)
	if set.name != "" {
		if read, err = s.durable(ctx, from); err != nil {
			return nil, err
		}
	}
	reading, cancel := context.WithCancel(ctx)
	s.cancel = cancel
	go func() {
		defer close(s.done)
		defer cancel()
		err := read(reading, func(d *delivery) bool { return s.take(ctx, reading, d) })
		asked := reading.Err() != nil
		cancel() // those who wait for their time need not any more
		s.wg.Wait()
		if !asked {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
		}
	}()
	return s, nil
}

// Stop takes no more events, waits for the handlers that are at work, and ends the
// subscription. What they were waiting to try again is left, to the next one of the
// same name if there is a name. It must not be called from a handler. Calling it
// twice is fine.
func (s *Subscription) Stop() {
	s.cancel()
	<-s.done
}

// Done is closed when the subscription has ended.
func (s *Subscription) Done() <-chan struct{} { return s.done }

// Err says why a subscription ended by itself; nil before that, and when it was
// stopped or its context ended.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// live reads the feed from now on. What is to come back waits in this process.
func (s *Subscription) live(from *selection) func(context.Context, func(*delivery) bool) error {
	return func(ctx context.Context, yield func(*delivery) bool) error {
		for e, err := range from.read(ctx, s.c) {
			if err != nil {
				return err
			}
			if !yield(&delivery{event: e, tries: 1}) {
				return nil
			}
		}
		return nil
	}
}

// take hands an event to a goroutine of its own, when there is a free place.
// handling is the context of handlers, reading that of the feed.
func (s *Subscription) take(handling, reading context.Context, d *delivery) bool {
	if !s.claim(d) {
		return true
	}
	select {
	case s.slots <- struct{}{}:
	case <-reading.Done():
		s.release(d, false)
		return false
	}
	d.park = func(pause time.Duration) bool { return s.park(reading, pause) }
	s.wg.Go(func() {
		defer func() { <-s.slots }()
		s.work(handling, reading, d)
	})
	return true
}

// claim reports whether an event is to be handled: not if it was, and not while it
// is.
func (s *Subscription) claim(d *delivery) bool {
	id := d.event.ID
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.told.has(id):
		d.end()
		return false
	case s.busy[id]:
		d.later(lastHold) // if that one fails, this one is the next try
		return false
	}
	s.busy[id] = true
	return true
}

// release ends the claim.
func (s *Subscription) release(d *delivery, dealtWith bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, d.event.ID)
	if dealtWith {
		s.told.add(d.event.ID)
	}
}

// work calls the handler, again while it fails.
func (s *Subscription) work(handling, reading context.Context, d *delivery) {
	for ; ; d.tries++ {
		stop := d.keep()
		err := s.call(handling, d)
		stop()
		switch {
		case err == nil:
			s.release(d, true)
			d.end()
			return
		case handling.Err() != nil || reading.Err() != nil:
			s.release(d, false)
			d.later(0)
			return
		case d.tries >= maxTries:
			s.tell(slog.LevelError, "an event was given up", d, err)
			s.release(d, true)
			d.end()
			return
		}
		s.tell(slog.LevelWarn, "an event comes again", d, err)
		pause := min(firstHold<<(d.tries-1), lastHold)
		if d.nak != nil {
			s.release(d, false)
			d.later(pause)
			return
		}
		if !d.park(pause) {
			s.release(d, false)
			return
		}
	}
}

// tell is for what nobody else is told.
func (s *Subscription) tell(level slog.Level, what string, d *delivery, err error) {
	s.c.log.Log(context.Background(), level, what, "handler", s.name, "event", string(d.event.Name), "event_id", d.event.ID, //nolint:sloglint // the words are constants of this file
		"op_id", d.event.OpID, "tries", d.tries, "error", err)
}

// park gives the place of an event free for a while.
func (s *Subscription) park(reading context.Context, pause time.Duration) bool {
	select {
	case s.parked <- struct{}{}:
		<-s.slots
		defer func() {
			s.slots <- struct{}{}
			<-s.parked
		}()
	default: // so many wait that this one keeps its place
	}
	return sleep(reading, pause)
}

// call calls the handler and turns its panic into an error.
func (s *Subscription) call(ctx context.Context, d *delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("client: the handler panicked: %v\n%s", v, debug.Stack())
		}
	}()
	return s.handle(ctx, d)
}

func (d *delivery) end() {
	if d.ack != nil {
		d.ack()
	}
}

func (d *delivery) later(pause time.Duration) {
	if d.nak != nil {
		d.nak(pause)
	}
}

// keep says again and again that the event is being worked on, until the function
// that it returns is called.
func (d *delivery) keep() (stop func()) {
	if d.touch == nil {
		return func() {}
	}
	t := time.NewTicker(ackWait / 3)
	end := make(chan struct{})
	go func() {
		for {
			select {
			case <-t.C:
				d.touch()
			case <-end:
				t.Stop()
				return
			}
		}
	}()
	return func() { close(end) }
}
