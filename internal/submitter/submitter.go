package submitter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
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
	Bus *bus.Bus
	// NewID names operations that come without an id; nil: [op.NewID].
	NewID   func() string
	Metrics *metrics.Submitter // nil counts for nobody
	Logger  *slog.Logger       // nil drops that a policy is not valid
}

// Submitter submits. It may be used from any goroutine.
type Submitter struct {
	bus        *bus.Bus
	partitions int
	newID      func() string
	metrics    *metrics.Submitter
	book       book
	news       news

	// send is one try to publish: that of the bus, and in tests another.
	send func(ctx context.Context, subject string, body []byte, msgID string, hdr nats.Header) (bus.Ack, error)
	// follow is Follow, and in tests without a server nothing.
	follow func(context.Context) error
}

// New returns a submitter.
func New(cfg Config) *Submitter {
	s := &Submitter{
		bus: cfg.Bus, partitions: cfg.Bus.Layout().Partitions, send: cfg.Bus.Publish, newID: cfg.NewID, metrics: cfg.Metrics,
	}
	s.follow, s.book.fetch, s.book.log = s.Follow, cfg.Bus.Policy, cfg.Logger
	if s.book.log == nil {
		s.book.log = slog.New(slog.DiscardHandler)
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
// durable. A mistake of the request is an [*op.Error]. So is what the policy in
// force would turn away (OPS-1022, OPS-1023), a want of room (OPS-1021 with
// retry_after_ms; wraps [bus.ErrIntakeFull] where it is the log that is full) and
// an outcome that is still unknown when ctx ends (OPS-1019, wraps ctx's error);
// [op.AsError] finds it. Nothing is stored unless it is OPS-1019.
func (s *Submitter) Do(ctx context.Context, r Request) (op.Accepted, error) {
	acc, _, err := s.submit(ctx, r)
	return acc, err
}

// submit is Do, and says which target it was.
func (s *Submitter) submit(ctx context.Context, r Request) (acc op.Accepted, target string, err error) {
	defer func() { s.count(cmp.Or(r.Transport, "program"), err) }()
	ops, body, err := s.prepare(ctx, r.Body, r.Target)
	if err != nil {
		return op.Accepted{}, "", err
	}
	acc, err = s.store(ctx, ops, body, r.Trace)
	return acc, ops[0].Target, err
}

// store publishes operations on one target that were checked.
func (s *Submitter) store(ctx context.Context, ops []op.Operation, body []byte, traceparent string) (op.Accepted, error) {
	target := ops[0].Target
	if e := s.news.admit(bus.PartitionOf(target, s.partitions), slices.Repeat([]string{target}, len(ops))...); e != nil {
		return op.Accepted{}, e
	}
	ack, err := s.publish(ctx, bus.SubmitSubject(target), body, "", trace(traceparent), nil)
	if err != nil {
		return op.Accepted{}, err
	}
	ids := make([]string, len(ops))
	for i := range ops {
		ids[i] = ops[i].ID
		s.metrics.Operations.WithLabelValues(ops[i].Type).Inc()
	}
	return op.Accepted{Type: op.AcceptedType, OpIDs: ids, Stream: ack.Stream, Seq: ack.Seq}, nil
}

// noRoom returns why there is no room for a submission; nil: there is, or it cannot
// be decoded. It waits for nothing, and does not look at params: what they lack is
// told when there is room for what they ask.
func (s *Submitter) noRoom(body []byte) *op.Error {
	r := s.book.now.Load()
	if r == nil || !s.news.tight() {
		return nil
	}
	ops, err := op.Decode(body, "", r.types.Types())
	if err != nil {
		return nil
	}
	target := ops[0].Target
	return s.news.full(bus.PartitionOf(target, s.partitions), target)
}

// prepare decodes and checks a submission, and returns the body to publish: the
// client's own where nothing had to be added, so that what it may send it may
// also have stored.
func (s *Submitter) prepare(ctx context.Context, data []byte, target string) (ops []op.Operation, body []byte, err error) {
	err = s.book.under(ctx, func(r *rules) (err error) {
		ops, err = read(data, target, r, r.check)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if !slices.ContainsFunc(ops, func(o op.Operation) bool { return o.ID == "" }) {
		return ops, data, nil
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

// read decodes a submission and has each operation checked. A mistake in one of
// several names its place.
func read(data []byte, target string, r *rules, check func(*op.Operation) *op.Error) ([]op.Operation, error) {
	ops, err := op.Decode(data, target, r.types.Types())
	if err != nil {
		return nil, err
	}
	for i := range ops {
		if e := check(&ops[i]); e != nil {
			if len(ops) > 1 {
				e.Field = strings.TrimSuffix(fmt.Sprintf("[%d].%s", i, e.Field), ".")
			}
			return nil, e
		}
	}
	return ops, nil
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

func trace(parent string) nats.Header {
	if parent == "" {
		return nil
	}
	return nats.Header{HeaderTrace: {parent}}
}

// publish stores one message, again and again while nothing is known about it.
// full is told when the log has no room, and the publish is tried again; nil means
// to give up.
//
// An operation that is stored twice that way is one: the resolver finds that its
// op_id is the same submission. A cancellation has no such id, so it brings a msgID,
// by which the server recognises the repetitions of this call. That must not follow
// from the operations. The server asks for the id alone, on all subjects of the intake,
// and whatever else was stored under it would have this message acknowledged and
// dropped. Submissions bring none, because the server keeps each in memory for two
// minutes.
func (s *Submitter) publish(ctx context.Context, subject string, body []byte, msgID string, hdr nats.Header, full func()) (bus.Ack, error) {
	pause := firstPause
	started := time.Now()
	maybe := false // a try had no answer
	for {
		ack, err := s.try(ctx, subject, body, msgID, hdr)
		noRoom := errors.Is(err, bus.ErrIntakeFull)
		switch {
		case err == nil:
			s.metrics.PublishSeconds.Observe(time.Since(started).Seconds())
			return ack, nil
		case noRoom && full == nil && !maybe:
			return bus.Ack{}, fmt.Errorf("%w: %w", overloaded(0, "the log is full"), err)
		case noRoom:
			if full != nil {
				full()
			}
		case !errors.Is(err, bus.ErrUnknownOutcome) || errors.Is(err, nats.ErrConnectionClosed):
			return bus.Ack{}, fmt.Errorf("%w: %w", op.Errorf(op.CodeUnavailable, "", "the log refused the message"), err)
		default:
			maybe = true
		}
		if !wait(ctx, pause) {
			e := op.Errorf(op.CodeUnavailable, "", "the log did not answer in time; the submission may or may not be stored")
			if noRoom && !maybe {
				e = overloaded(0, "the log is full")
			}
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

// count tells the metrics how a request ended.
func (s *Submitter) count(transport string, err error) {
	outcome := "accepted"
	if err != nil {
		outcome = "unknown"
		if e := op.AsError(err); e != nil && e.Code == op.CodeOverloaded {
			outcome = "full"
		} else if e != nil && e.Code != op.CodeUnavailable {
			outcome = "refused"
			s.metrics.Refused.WithLabelValues(e.Code).Inc()
		}
	}
	s.metrics.Requests.WithLabelValues(transport, outcome).Inc()
}

// wait reports false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool { return bus.Sleep(ctx, d) == nil }
