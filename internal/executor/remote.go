package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Types of the bodies between an executor and handlers of any language.
const (
	RequestType  = "ops.v1.handler_request"
	ResponseType = "ops.v1.handler_response"
	PulseType    = "ops.v1.handler_heartbeat" // the answer to a heartbeat that asks for one
)

// MaxResponse bounds a handler's answer in bytes. What is larger would be no
// change of an entity either.
const MaxResponse = 1 << 20

// HandlerSubject is where handlers of a type, in any language, take requests.
// They share them by a queue group of their choice.
func HandlerSubject(opType string) string { return "ops.handler." + opType }

// request asks a handler for the effect of one attempt.
type request struct {
	Type      string          `json:"type"`
	Operation *op.Operation   `json:"operation"`
	Entity    json.RawMessage `json:"entity"` // null: there is none
	Attempt   int             `json:"attempt"`
	// Deadline is on the executor's clock; LeaseMS says the same without one.
	Deadline         time.Time `json:"deadline"`
	LeaseMS          int64     `json:"lease_ms"`
	IdempotencyKey   string    `json:"idempotency_key"`
	HeartbeatSubject string    `json:"heartbeat_subject"`
}

// pulseAck answers a heartbeat that has a reply subject.
type pulseAck struct {
	Type     string `json:"type"`
	Accepted bool   `json:"accepted"` // false: nothing that the handler says counts any more
	LeaseMS  int64  `json:"lease_ms"` // until it has to be done, as far as is known now
}

// remote runs handlers in any language by request and reply. Each request has a
// reply subject and a heartbeat subject of its own, and what comes later than the
// end of its attempt is heard by nobody.
type remote struct {
	nc    *nats.Conn
	log   *slog.Logger
	inbox string // of heartbeats

	mu   sync.Mutex
	n    uint64
	runs map[string]*Task // by the last token of their heartbeat subject
}

func newRemote(nc *nats.Conn, log *slog.Logger) *remote {
	return &remote{nc: nc, log: log, inbox: nc.NewInbox(), runs: map[string]*Task{}}
}

// listen hears heartbeats until stop is called.
func (r *remote) listen() (stop func()) {
	sub, err := r.nc.Subscribe(r.inbox+".*", r.pulse)
	if err != nil {
		r.log.Warn("heartbeats of handlers are not heard", "error", err)
		return func() {}
	}
	return func() { _ = sub.Unsubscribe() } // fails when the connection is closed, which is as good
}

// pulse prolongs the attempt that a handler is alive for.
func (r *remote) pulse(m *nats.Msg) {
	r.mu.Lock()
	t := r.runs[strings.TrimPrefix(m.Subject, r.inbox+".")]
	r.mu.Unlock()
	ack := pulseAck{Type: PulseType, Accepted: t != nil && t.Heartbeat() == nil}
	if m.Reply == "" {
		return
	}
	if ack.Accepted {
		ack.LeaseMS = max(0, time.Until(t.Deadline()).Milliseconds())
	}
	body, _ := op.Marshal(&ack) // a word and a number
	_ = m.Respond(body)         // a handler that hears nothing asks again or is told in the end
}

// begin gives an attempt a heartbeat subject until end is called.
func (r *remote) begin(t *Task) (subject string, end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	token := strconv.FormatUint(r.n, 36)
	r.runs[token] = t
	return r.inbox + "." + token, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.runs, token)
	}
}

// errNobody: there is no handler in any language.
var errNobody = errors.New("nobody listens")

// handle is the [Handler] of a type that is served over NATS.
func (r *remote) handle(ctx context.Context, t *Task) (*entity.Change, error) {
	beats, end := r.begin(t)
	defer end()
	snapshot := t.hold.w.Entity
	if len(snapshot) == 0 {
		snapshot = json.RawMessage("null")
	}
	body, err := op.Marshal(&request{
		Type: RequestType, Operation: t.Operation, Entity: snapshot, Attempt: t.Attempt,
		Deadline: t.Deadline().UTC(), LeaseMS: max(0, time.Until(t.Deadline()).Milliseconds()),
		IdempotencyKey: t.Key(), HeartbeatSubject: beats,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	subject := HandlerSubject(t.Operation.Type)
	m, err := r.nc.RequestWithContext(ctx, subject, body)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, errNobody
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, &op.Failure{Code: CodeTooLarge, Message: fmt.Sprintf("the request has %d bytes, more than the server takes", len(body)), Terminal: true}
	case err != nil:
		return nil, fmt.Errorf("request %s: %w", subject, err)
	}
	return answered(m, t.Entity)
}

// answered turns a handler's answer into a change or a failure.
func answered(m *nats.Msg, before *entity.Entity) (*entity.Change, error) {
	if len(m.Data) > MaxResponse {
		return nil, &op.Failure{
			Code: CodeTooLarge, Message: fmt.Sprintf("the handler's answer has %d bytes, the limit is %d", len(m.Data), MaxResponse), Terminal: true,
		}
	}
	r, err := parseResponse(m.Data)
	if code := m.Header.Get(micro.ErrorCodeHeader); err != nil && code != "" { // in the words of a NATS micro service
		return nil, (&mistake{Code: code, Message: m.Header.Get(micro.ErrorHeader)}).failure()
	}
	if err != nil {
		return nil, &op.Failure{Code: CodeBadResponse, Message: "the handler's answer cannot be read: " + err.Error()}
	}
	if r.Error != nil {
		return nil, r.Error.failure()
	}
	c, err := r.Effect.Change(before)
	if err != nil {
		return nil, &op.Failure{Code: CodeBadChange, Message: err.Error(), Terminal: true}
	}
	return c, nil
}
