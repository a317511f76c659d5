package submitter

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/service"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Headers of a request to the endpoints.
const (
	// HeaderWait says when to answer: "accepted" (the default) once the
	// submission is durable, "done" once its operations have ended.
	HeaderWait = "Ops-Wait"
	// HeaderTimeout bounds the wait, as a Go duration; the answer comes in time
	// in any case.
	HeaderTimeout = "Ops-Timeout"
)

// Bounds of a request.
const (
	publishTimeout = 5 * time.Second  // to become durable
	waitTimeout    = 30 * time.Second // to end, unless HeaderTimeout says otherwise
	maxWait        = 5 * time.Minute
	maxRequests    = 4096 // handled at once; more wait in the connection
	maxWaiting     = 3072 // of them waiting for an end, so that those who only submit get through
	flushTimeout   = time.Second
)

// Waited answers a request that waited for the end of its operations.
type Waited struct {
	op.Accepted
	Done    bool        `json:"done"` // every operation has ended
	Records []op.Record `json:"records"`
}

// ServeConfig is what the role needs. Submitter and Service are required.
type ServeConfig struct {
	Submitter *Submitter
	Service   *service.Service
	Logger    *slog.Logger
	// DrainTimeout bounds how long requests that have arrived when ctx ends may
	// go on; 0 means ten seconds. Waits for an end are answered at once.
	DrainTimeout time.Duration
	Ready        func(bool) // told when requests are taken, and when no longer; may be nil
}

// Serve offers the endpoints ops.api.submit, bulk, cancel, retry, whatif, operation
// and help until ctx ends; then it takes no more requests, answers those that have
// arrived, and returns nil. It follows the policy and stops the service.
func Serve(ctx context.Context, cfg ServeConfig) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Ready == nil {
		cfg.Ready = func(bool) {}
	}
	if cfg.DrainTimeout <= 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	v := &server{
		s: cfg.Submitter, log: cfg.Logger, slots: make(chan struct{}, maxRequests), waits: make(chan struct{}, maxWaiting),
		waiting: ctx, running: running,
	}
	if err := cfg.Submitter.follow(running); err != nil {
		return err
	}
	for _, e := range v.endpoints() {
		if err := cfg.Service.Endpoint(e.verb, bus.APISubject(e.verb, e.args...), e.about, v.in(e)); err != nil {
			return err
		}
	}
	if err := cfg.Service.Endpoint("help", bus.APISubject("help"), "How to submit, in plain text.", v.help); err != nil {
		return err
	}
	if err := cfg.Submitter.bus.Conn().FlushTimeout(publishTimeout); err != nil {
		cfg.Logger.Warn("the endpoints may not be known to the server yet", "error", err)
	}
	cfg.Ready(true)
	<-ctx.Done()
	cfg.Ready(false)
	err := cfg.Service.Stop()
	// What the server has handed over until it knows is still answered.
	if err := cfg.Submitter.bus.Conn().FlushTimeout(flushTimeout); err != nil {
		cfg.Logger.Warn("draining without the server", "error", err)
	}
	if !v.close(cfg.DrainTimeout) {
		cfg.Logger.Warn("requests were left unanswered")
		stop()
	}
	return err
}

// server handles requests, each on a goroutine of its own.
type server struct {
	s       *Submitter
	log     *slog.Logger
	slots   chan struct{}
	waits   chan struct{}   // of requests that wait for an end
	waiting context.Context //nolint:containedctx // ends the waits when the role drains
	running context.Context //nolint:containedctx // ends everything when the drain's time is over

	mu     sync.RWMutex // held to read while a request is let in
	closed bool
	wg     sync.WaitGroup
}

// in turns an endpoint into a handler. A request that comes too late is told so, and
// what the endpoint turns away is answered before the next one is looked at: under
// overload, a goroutine for each of them would have everybody else wait behind all of
// those.
func (v *server) in(e endpoint) func(micro.Request) {
	return func(r micro.Request) {
		v.mu.RLock()
		defer v.mu.RUnlock()
		if v.closed {
			if err := service.RespondError(r, op.Errorf(op.CodeUnavailable, "", "this submitter is stopping; nothing was stored")); err != nil {
				v.log.Warn("a request was not answered", "error", err)
			}
			return
		}
		if e.turnAway != nil {
			if err := e.turnAway(r); err != nil {
				v.answer(r, nil, err)
				return
			}
		}
		v.slots <- struct{}{}
		v.s.metrics.InFlight.Inc()
		v.wg.Go(func() {
			defer func() {
				v.s.metrics.InFlight.Dec()
				<-v.slots
			}()
			body, err := e.handle(v.running, r)
			v.answer(r, body, err)
		})
	}
}

// close lets nobody in any more and waits for those inside; false when the time
// ran out.
func (v *server) close(patience time.Duration) bool {
	done := make(chan struct{})
	go func() {
		v.mu.Lock()
		v.closed = true
		v.mu.Unlock()
		v.wg.Wait()
		close(done)
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}
