package submitter

import (
	"context"
	"log/slog"
	"net/textproto"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
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

// Serve offers the endpoints ops.api.submit, ops.api.cancel and ops.api.help
// until ctx ends; then it takes no more requests, answers those that have
// arrived, and returns nil. It stops the service.
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
	v := &server{s: cfg.Submitter, log: cfg.Logger, slots: make(chan struct{}, maxRequests), waiting: ctx, running: running}
	for _, e := range []struct {
		verb, about string
		handle      func(context.Context, micro.Request) (any, error)
	}{
		{"submit", "Submit one operation, or an array on one target.", v.submit},
		{"cancel", "Cancel an operation: {\"op_id\": …}.", v.cancel},
	} {
		if err := cfg.Service.Endpoint(e.verb, bus.APISubject(e.verb), e.about, v.in(e.handle)); err != nil {
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
	waiting context.Context //nolint:containedctx // ends the waits when the role drains
	running context.Context //nolint:containedctx // ends everything when the drain's time is over

	mu     sync.RWMutex // held to read while a request is let in
	closed bool
	wg     sync.WaitGroup
}

// in turns a function into a handler. A request that comes too late is told so.
func (v *server) in(handle func(context.Context, micro.Request) (any, error)) func(micro.Request) {
	return func(r micro.Request) {
		v.mu.RLock()
		defer v.mu.RUnlock()
		if v.closed {
			if err := service.RespondError(r, op.Errorf(op.CodeUnavailable, "", "this submitter is stopping; nothing was stored")); err != nil {
				v.log.Warn("a request was not answered", "error", err)
			}
			return
		}
		v.slots <- struct{}{}
		v.s.metrics.InFlight.Inc()
		v.wg.Go(func() {
			defer func() {
				v.s.metrics.InFlight.Dec()
				<-v.slots
			}()
			body, err := handle(v.running, r)
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

// answer sends the answer itself: micro's own request is only to be answered
// before its handler returns, since micro looks at it afterwards.
func (v *server) answer(r micro.Request, body any, err error) {
	m := &nats.Msg{Subject: r.Reply(), Header: nats.Header{}}
	if err != nil {
		e := op.AsError(err)
		if e == nil {
			e = op.Errorf(op.CodeUnavailable, "", "the request failed: %v", err)
		}
		if e.Code == op.CodeUnavailable {
			v.log.Warn("a request failed", "subject", r.Subject(), "error", err)
		}
		m.Header.Set(micro.ErrorHeader, e.Message)
		m.Header.Set(micro.ErrorCodeHeader, service.Digits(e.Code))
		body = e
	}
	if m.Subject == "" {
		return // nobody asked for an answer
	}
	if m.Data, err = op.Marshal(body); err == nil {
		err = v.s.bus.Conn().PublishMsg(m)
	}
	if err != nil {
		v.log.Warn("a request was not answered", "subject", r.Subject(), "error", err)
	}
}

// submit handles ops.api.submit.
func (v *server) submit(ctx context.Context, r micro.Request) (any, error) {
	wait, timeout, err := manner(r)
	if err != nil {
		return nil, err
	}
	pctx, cancel := context.WithTimeout(ctx, min(timeout, publishTimeout))
	defer cancel()
	started := time.Now()
	acc, target, err := v.s.submit(pctx, Request{Body: r.Data(), Trace: header(r, HeaderTrace), Transport: "nats"})
	if err != nil {
		return nil, err
	}
	if !wait {
		return acc, nil
	}
	return v.waited(ctx, target, acc, timeout-time.Since(started)), nil
}

// waited waits for the end of what was accepted. It has no error: that the
// submission is durable is true whatever comes after.
func (v *server) waited(ctx context.Context, target string, acc op.Accepted, timeout time.Duration) Waited {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(v.waiting, cancel)()
	records, done := v.s.Await(ctx, target, acc.OpIDs...)
	return Waited{Accepted: acc, Done: done, Records: records}
}

// cancel handles ops.api.cancel.
func (v *server) cancel(ctx context.Context, r micro.Request) (any, error) {
	wait, timeout, err := manner(r)
	if err != nil {
		return nil, err
	}
	req, err := decodeCancel(r.Data())
	if err != nil {
		return nil, err
	}
	started := time.Now()
	pctx, cancel := context.WithTimeout(ctx, min(timeout, publishTimeout))
	defer cancel()
	if req.Target == "" {
		rec, err := v.s.find(pctx, req.OpID)
		if err != nil {
			return nil, err
		}
		if rec.Status.Terminal() {
			acc := op.Accepted{Type: op.AcceptedType, OpIDs: []string{req.OpID}, Stream: bus.StreamIntake, Seq: rec.Seq}
			return Waited{Accepted: acc, Done: true, Records: []op.Record{rec}}, nil
		}
		req.Target = rec.Target
	}
	acc, err := v.s.Cancel(pctx, req.Target, req.OpID)
	if err != nil {
		return nil, err
	}
	if !wait {
		return acc, nil
	}
	return v.waited(ctx, req.Target, acc, timeout-time.Since(started)), nil
}

// manner reads how a request wants to be answered.
func manner(r micro.Request) (wait bool, timeout time.Duration, err error) {
	switch h := header(r, HeaderWait); h {
	case "", "accepted":
	case "done":
		wait = true
	default:
		return false, 0, op.Errorf(op.CodeBadValue, HeaderWait, "%s is %.40q, neither accepted nor done", HeaderWait, h)
	}
	timeout = waitTimeout
	if h := header(r, HeaderTimeout); h != "" {
		timeout, err = time.ParseDuration(h)
		if err != nil || timeout <= 0 || timeout > maxWait {
			return false, 0, op.Errorf(op.CodeBadValue, HeaderTimeout, "%s is %.40q, not a duration up to %s", HeaderTimeout, h, maxWait)
		}
	}
	return wait, timeout, nil
}

// header reads a header in any case: NATS keeps the case, and clients differ.
func header(r micro.Request, name string) string {
	h := r.Headers()
	for _, key := range [2]string{name, textproto.CanonicalMIMEHeaderKey(name)} {
		if v := h.Get(key); v != "" {
			return v
		}
	}
	for key, v := range h {
		if len(v) > 0 && strings.EqualFold(key, name) {
			return v[0]
		}
	}
	return ""
}

func (v *server) help(r micro.Request) {
	if err := r.Respond([]byte(help)); err != nil {
		v.log.Warn("a request was not answered", "subject", r.Subject(), "error", err)
	}
}

const help = `Hierarchy: submit operations; the resolver decides which of them may run.

Submit, with an answer once it is durable:
  nats req ops.api.submit '{"op_type":"modify_field","target_entity_id":"user-42","params":{"field_name":"counter","new_value":1}}'
The same, and wait for the end (at most 10 s):
  nats req ops.api.submit -H Ops-Wait:done -H Ops-Timeout:10s --timeout 11s '…'
Straight into the log, without any program of ours in between:
  nats pub -J ops.submit.user-42 '{"op_type":"modify_field","priority":"HIGH","params":{"field_name":"counter","new_value":1}}'
Cancel:
  nats req ops.api.cancel '{"op_id":"…"}'
Follow:
  nats req ops.api.status.<op_id> ''      nats sub 'ops.event.operation.rejected.>'      nats kv get OPS_ENTITIES user-42 --raw

Fields: op_type (required), target_entity_id, op_id (send the same id again to repeat safely), params, priority 1-10 or
BACKGROUND LOW NORMAL HIGH CRITICAL, parent_op_id, source_entity_id, max_retries, on_conflict reject|queue|retry,
preemptible, deadline, expected_version, labels. An array of operations on one target is accepted or refused as a whole.
Errors have a code OPS-1xxx: hierarchy errors OPS-1003.
`
