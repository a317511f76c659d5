package client

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Patience with one try of a request. A submitter answers a submission within
// five seconds; a history reads a whole partition.
const (
	writePatience = 7 * time.Second
	readPatience  = 35 * time.Second
)

// Pauses between two tries.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
	// suspicion is when a request without an answer is held against what the
	// server said about rights: it says so at once, but not as an answer.
	suspicion     = 250 * time.Millisecond
	lastSuspicion = 10 * time.Second
)

// headerTrace is the W3C trace context, in the case in which it travels.
const headerTrace = "traceparent"

type traceKey struct{}

// WithTrace returns a context whose submissions carry a W3C trace context. It
// comes back in every event about their operations.
func WithTrace(ctx context.Context, traceparent string) context.Context {
	return context.WithValue(ctx, traceKey{}, traceparent)
}

// question is one request to the API.
type question struct {
	verb string
	arg  string // last tokens of the subject, or ""
	body []byte
	opID string // for the error
	// write: an attempt without an answer may have been carried out. Such a
	// request must be repeatable: it names its operations.
	write bool
}

// ask sends a request until it is answered or ctx ends, and decodes the answer.
func ask[T any](ctx context.Context, c *Client, q *question) (v T, err error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	data, err := c.repeat(ctx, q)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, trouble(q.opID, q.kind(true), err, "the answer cannot be read")
	}
	return v, nil
}

// kind is the sentinel for a request that was not answered. maybe: somebody may
// have got it.
func (q *question) kind(maybe bool) error {
	if q.write && maybe {
		return ErrUnknown
	}
	return ErrUnavailable
}

func (c *Client) repeat(ctx context.Context, q *question) ([]byte, error) {
	maybe := false // an attempt was sent and not answered
	pause := firstPause
	for {
		data, err := c.try(ctx, q)
		if err == nil {
			return data, nil
		}
		refused := op.AsError(err)
		switch {
		case refused != nil && refused.Code != op.CodeUnavailable:
			e := refusal(q.opID, refused)
			if maybe && q.write && !e.Is(ErrInvalid) && !e.Is(ErrNotFound) {
				e.kinds = append(e.kinds, ErrUnknown) // this attempt was refused; an earlier one may have got in
			}
			return nil, e
		case c.nc.IsClosed() || errors.Is(err, nats.ErrConnectionClosed):
			return nil, c.closed(q, err, maybe)
		case errors.Is(err, nats.ErrMaxPayload):
			return nil, mistake(q.opID, op.CodeTooLarge, "", "the request is larger than the server takes")
		case c.forbidden(q):
			return nil, trouble(q.opID, ErrPermission, c.nc.LastError(), "the server refused "+q.subject())
		case !errors.Is(err, nats.ErrNoResponders):
			maybe = true
		}
		if !sleep(ctx, pause) {
			e := trouble(q.opID, q.kind(maybe), err, "no answer to "+q.subject())
			e.cause = errors.Join(context.Cause(ctx), err)
			return nil, e
		}
		pause = min(2*pause, lastPause)
	}
}

func (c *Client) closed(q *question, err error, maybe bool) *Error {
	e := trouble(q.opID, ErrClosed, err, "the connection is closed")
	if maybe && q.write {
		e.kinds = append(e.kinds, ErrUnknown)
	}
	return e
}

// try is one request. A mistake that the answer tells is an [*op.Error].
func (c *Client) try(ctx context.Context, q *question) ([]byte, error) {
	patience := readPatience
	if q.write {
		patience = writePatience
	}
	tctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.AfterFunc(suspicion, func() {
		if c.forbidden(q) {
			cancel()
		}
	})
	defer look.Stop()
	m := nats.NewMsg(q.subject())
	m.Data = q.body
	if trace, ok := ctx.Value(traceKey{}).(string); ok && q.write {
		m.Header[headerTrace] = []string{trace}
	}
	r, err := c.nc.RequestMsgWithContext(tctx, m)
	if err != nil {
		return nil, err
	}
	if said := r.Header.Get(micro.ErrorHeader); said != "" {
		return nil, answered(r.Data, r.Header.Get(micro.ErrorCodeHeader), said)
	}
	return r.Data, nil
}

// answered reads the body of a refusal.
func answered(data []byte, code, message string) *op.Error {
	var e op.Error
	if json.Unmarshal(data, &e) == nil && e.Type == op.ErrorType && e.Code != "" {
		return &e
	}
	if strings.HasPrefix(code, "1") && len(code) == 4 {
		return op.Errorf("OPS-"+code, "", "%s", message)
	}
	return op.Errorf(op.CodeUnavailable, "", "%s", message)
}

// forbidden reports whether the server has said that this connection may not send
// such a request. Nobody answers those.
func (c *Client) forbidden(q *question) bool { return c.violation(q.subject()+`"`) != nil }

// violation is what the server has said about a subject that starts so.
func (c *Client) violation(starts ...string) error {
	err := c.nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	for _, s := range starts {
		if strings.Contains(err.Error(), `"`+s) {
			return err
		}
	}
	return nil
}

// permitted is a context that ends when the server says that this connection may
// not use a subject that starts so: what waits for an answer would wait for ever.
func (c *Client) permitted(ctx context.Context, starts ...string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	pause := suspicion
	var look *time.Timer
	armed := make(chan struct{})
	look = time.AfterFunc(pause, func() {
		<-armed
		if ctx.Err() != nil {
			return
		}
		if err := c.violation(starts...); err != nil {
			cancel(trouble("", ErrPermission, err, "the server refused"))
			return
		}
		pause = min(2*pause, lastSuspicion)
		look.Reset(pause)
	})
	close(armed)
	return ctx, func() {
		look.Stop()
		cancel(nil)
	}
}

// denied is why such a context has ended, if it was for want of a right.
func denied(ctx context.Context) *Error {
	var e *Error
	if errors.As(context.Cause(ctx), &e) && e.Is(ErrPermission) {
		return e
	}
	return nil
}

func (q *question) subject() string {
	if q.arg == "" {
		return bus.APISubject(q.verb)
	}
	return bus.APISubject(q.verb, q.arg)
}

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
