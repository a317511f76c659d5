package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publishTimeout bounds [Bus.Publish] when its context has no deadline.
const publishTimeout = 5 * time.Second

// Publish appends one message to the log and returns when it is durable. msgID,
// if not empty, makes a repeat within the server's window of two minutes the
// same message. hdr may be nil and is not modified.
//
// The error wraps [ErrIntakeFull] when the stream is full, and
// [ErrUnknownOutcome] when no answer came (also when ctx ended, whose error is
// wrapped too). A context without a deadline gets one of five seconds.
func (b *Bus) Publish(ctx context.Context, subject string, body []byte, msgID string, hdr nats.Header) (Ack, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, publishTimeout)
		defer cancel()
	}
	m := &nats.Msg{Subject: subject, Data: body}
	if len(hdr) > 0 {
		m.Header = maps.Clone(hdr)
	}
	if msgID != "" {
		if m.Header == nil {
			m.Header = nats.Header{}
		}
		m.Header.Set(jetstream.MsgIDHeader, msgID)
	}
	points := pointsOf(publishRoutes, subject)
	for n := 0; ; n++ {
		r, err := around(points, func() (*nats.Msg, error) { return b.nc.RequestMsgWithContext(ctx, m) })
		if errors.Is(err, nats.ErrNoResponders) {
			// Nobody got it: an election, or no such stream. Asking again is safe.
			if pause(ctx, n+5) == nil {
				continue
			}
		}
		if err != nil {
			return Ack{}, unknown("publish "+subject, err)
		}
		ack, err := parseAck(r.Data)
		switch c := code(err); {
		case err == nil:
			return ack, nil
		case c == codeDuplicateFlight || c == codeBusy:
			// The same message id is being stored this very moment.
			if pause(ctx, n) == nil {
				continue
			}
			return Ack{}, unknown("publish "+subject, err)
		case full(err):
			return Ack{}, fmt.Errorf("%w: publish %s: %w", ErrIntakeFull, subject, err)
		case c == 0 || !hopeless(err):
			return Ack{}, unknown("publish "+subject, err)
		}
		return Ack{}, fmt.Errorf("bus: publish %s: %w", subject, err)
	}
}

func unknown(doing string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnknownOutcome, doing, err)
}

// full reports whether the server refused a message for want of room. One code
// stands for every failure of the store; only its text tells a limit of ours
// from a broken disk.
func full(err error) bool {
	var e *jetstream.APIError
	if !errors.As(err, &e) {
		return false
	}
	switch e.ErrorCode {
	case codeNoResources, codeNoStorage, codeTooManyInFlight:
		return true
	case codeStoreFailed:
		return strings.Contains(e.Description, "maximum")
	}
	return false
}
