package submitter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// HeaderTrace is the W3C trace context of a submission; NATS headers keep their
// case, and this one is written in lower case.
const HeaderTrace = "traceparent"

// Pauses between two tries of one publish, and the patience with one try.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
	patience   = 3 * time.Second
)

// Config is what a submitter needs. Bus is required.
type Config struct {
	Bus   *bus.Bus
	Types op.Types // nil: the built-in types
	// NewID names operations that come without an id; nil: [op.NewID].
	NewID   func() string
	Metrics *metrics.Submitter // nil counts for nobody
}

// Submitter submits. It may be used from any goroutine.
type Submitter struct {
	bus        *bus.Bus
	partitions int
	types      op.Types
	builtin    op.Types
	newID      func() string
	metrics    *metrics.Submitter

	// send is one try to publish: that of the bus, and in tests another.
	send func(ctx context.Context, subject string, body []byte, msgID string, hdr nats.Header) (bus.Ack, error)
}

// New returns a submitter.
func New(cfg Config) *Submitter {
	s := &Submitter{
		bus: cfg.Bus, partitions: cfg.Bus.Layout().Partitions, send: cfg.Bus.Publish,
		types: cfg.Types, builtin: op.BuiltinTypes(), newID: cfg.NewID, metrics: cfg.Metrics,
	}
	if s.types == nil {
		s.types = s.builtin
	}
	if s.newID == nil {
		s.newID = op.NewID
	}
	if s.metrics == nil {
		var nobody *metrics.Registry
		s.metrics = nobody.Submitter()
	}
	return s
}

// Request is one submission.
type Request struct {
	Body   []byte // one operation, or an array of operations on one target
	Target string // "" where the body names it
	Trace  string // traceparent, or ""
	// Transport says how the request came, for the metrics: "nats", "program"
	// (the default).
	Transport string
}

// Submit is [Submitter.Do] for a body and a target.
func (s *Submitter) Submit(ctx context.Context, body []byte, target string) (op.Accepted, error) {
	return s.Do(ctx, Request{Body: body, Target: target})
}

// Do validates a submission, names what has no id, and returns when it is
// durable. A mistake of the request is an [*op.Error]. So is a log that is full
// (OPS-2004, wraps [bus.ErrBackpressure]) and an outcome that is still unknown
// when ctx ends (OPS-1019, wraps ctx's error); [op.AsError] finds it.
func (s *Submitter) Do(ctx context.Context, r Request) (op.Accepted, error) {
	acc, _, err := s.submit(ctx, r)
	return acc, err
}

// submit is Do, and says which target it was.
func (s *Submitter) submit(ctx context.Context, r Request) (acc op.Accepted, target string, err error) {
	defer func() { s.count(cmp.Or(r.Transport, "program"), err) }()
	ops, body, err := s.prepare(r.Body, r.Target)
	if err != nil {
		return op.Accepted{}, "", err
	}
	ids := make([]string, len(ops))
	for i := range ops {
		ids[i] = ops[i].ID
	}
	target = ops[0].Target
	ack, err := s.publish(ctx, bus.SubmitSubject(target), body, trace(r.Trace), nil)
	if err != nil {
		return op.Accepted{}, "", err
	}
	for i := range ops {
		s.metrics.Operations.WithLabelValues(ops[i].Type).Inc()
	}
	return op.Accepted{Type: op.AcceptedType, OpIDs: ids, Stream: ack.Stream, Seq: ack.Seq}, target, nil
}

// prepare decodes and checks a submission, and returns the body to publish: the
// client's own where nothing had to be added, so that what it may send it may
// also have stored.
func (s *Submitter) prepare(body []byte, target string) ([]op.Operation, []byte, error) {
	ops, err := op.Decode(body, target, s.types)
	if err != nil {
		return nil, nil, err
	}
	named := true
	for i := range ops {
		if e := s.checkParams(&ops[i]); e != nil {
			if len(ops) > 1 {
				e.Field = fmt.Sprintf("[%d].%s", i, e.Field)
			}
			return nil, nil, e
		}
		named = named && ops[i].ID != ""
	}
	if named {
		return ops, body, nil
	}
	op.Normalize(ops, s.newID)
	if body, err = encode(ops); err != nil {
		return nil, nil, err
	}
	if len(body) > op.MaxBody {
		return nil, nil, op.Errorf(op.CodeTooLarge, "",
			"with ids and defaults written out the body has %d bytes, the limit is %d", len(body), op.MaxBody)
	}
	return ops, body, nil
}

// checkParams asks for the params of the built-in types; those of others are for
// their handlers to judge.
func (s *Submitter) checkParams(o *op.Operation) *op.Error {
	if _, ok := s.builtin[o.Type]; ok {
		return entity.CheckParams(o)
	}
	return nil
}

func encode(ops []op.Operation) ([]byte, error) {
	if len(ops) == 1 {
		return op.Encode(&ops[0])
	}
	body := []byte{'['}
	for i := range ops {
		if i > 0 {
			body = append(body, ',')
		}
		var err error
		if body, err = op.AppendOperation(body, &ops[i]); err != nil {
			return nil, err
		}
	}
	return append(body, ']'), nil
}

// Cancel asks for the cancellation of an operation and returns when the request
// is durable. Whether it came in time is told by the operation's record. Errors
// are those of [Submitter.Do].
func (s *Submitter) Cancel(ctx context.Context, target, opID string) (op.Accepted, error) {
	if !op.Token(target) {
		return op.Accepted{}, op.Errorf(op.CodeBadID, "target_entity_id", "target %.80q is not an id", target)
	}
	if !op.Token(opID) {
		return op.Accepted{}, op.Errorf(op.CodeBadID, "op_id", "op_id %.80q is not an id", opID)
	}
	ack, err := s.publish(ctx, bus.CancelSubject(target), []byte(`{"op_id":"`+opID+`"}`), nil, nil)
	if err != nil {
		return op.Accepted{}, err
	}
	return op.Accepted{Type: op.AcceptedType, OpIDs: []string{opID}, Stream: ack.Stream, Seq: ack.Seq}, nil
}

func trace(parent string) nats.Header {
	if parent == "" {
		return nil
	}
	return nats.Header{HeaderTrace: {parent}}
}

// publish stores one message, again and again while nothing is known about it.
// full is asked when the log has no room: nil means to give up, otherwise it is
// told and the publish is tried again.
//
// The message has an id of its own, by which the server recognises the
// repetitions of this call. It must not follow from the operations. The server
// asks for the id alone, on all subjects of the intake, and whatever else was
// stored under an op_id (something invalid, or of another target) would have this
// message acknowledged and dropped. That an op_id is the same submission is for
// the resolver to find.
func (s *Submitter) publish(ctx context.Context, subject string, body []byte, hdr nats.Header, full func()) (bus.Ack, error) {
	msgID := op.NewID()
	pause := firstPause
	started := time.Now()
	for {
		ack, err := s.try(ctx, subject, body, msgID, hdr)
		noRoom := errors.Is(err, bus.ErrBackpressure)
		switch {
		case err == nil:
			s.metrics.PublishSeconds.Observe(time.Since(started).Seconds())
			return ack, nil
		case noRoom && full == nil:
			return bus.Ack{}, fmt.Errorf("%w: %w", overloaded(), err)
		case noRoom:
			full()
		case !errors.Is(err, bus.ErrUnknownOutcome) || errors.Is(err, nats.ErrConnectionClosed):
			return bus.Ack{}, fmt.Errorf("%w: %w", op.Errorf(op.CodeUnavailable, "", "the log refused the message"), err)
		}
		if !wait(ctx, pause) {
			e := op.Errorf(op.CodeUnavailable, "", "the log did not answer in time; the submission may or may not be stored")
			return bus.Ack{}, fmt.Errorf("%w: %w: %w", e, err, context.Cause(ctx))
		}
		pause = min(2*pause, lastPause)
	}
}

func (s *Submitter) try(ctx context.Context, subject string, body []byte, msgID string, hdr nats.Header) (bus.Ack, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.send(ctx, subject, body, msgID, hdr)
}

// overloaded is the answer to a single submission when the log is full: nothing
// was stored, and nothing is wrong with the request.
func overloaded() *op.Error {
	return &op.Error{
		Type: op.ErrorType, Code: op.Overloaded.Code(), Message: "the log is full, nothing was stored",
		Hint: "Nothing is wrong with the operation: submit it again in a second or so.",
	}
}

// count tells the metrics how a request ended.
func (s *Submitter) count(transport string, err error) {
	outcome := "accepted"
	if err != nil {
		outcome = "unknown"
		if e := op.AsError(err); e != nil && e.Code == op.Overloaded.Code() {
			outcome = "full"
		} else if e != nil && e.Code != op.CodeUnavailable {
			outcome = "refused"
			s.metrics.Refused.WithLabelValues(e.Code).Inc()
		}
	}
	s.metrics.Requests.WithLabelValues(transport, outcome).Inc()
}

// wait reports false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
