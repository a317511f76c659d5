package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// A named subscription is a durable pull consumer of the feed. This file speaks to
// the server as any client in any language would: a request to create it, requests
// for events, and an acknowledgement for each.
const (
	// ackWait is after what silence an event goes to somebody else of the same
	// name.
	ackWait = 30 * time.Second
	// pullWait is how long one request for events may wait, with a sign of life
	// every second.
	pullWait   = 5 * time.Second
	pullPulse  = time.Second
	pullSilent = 2*pullPulse + pullPulse/2
	// maxName leaves room for what a name is prefixed with.
	maxName = 48
	// consumerPrefix keeps the consumers of clients apart from others.
	consumerPrefix = "client-"
)

// consumer is what the server is told about a named subscription.
type consumer struct {
	Durable       string            `json:"durable_name"`
	Name          string            `json:"name"`
	Description   string            `json:"description"`
	DeliverPolicy string            `json:"deliver_policy"`
	StartSeq      uint64            `json:"opt_start_seq,omitempty"`
	StartTime     *time.Time        `json:"opt_start_time,omitempty"`
	AckPolicy     string            `json:"ack_policy"`
	AckWait       time.Duration     `json:"ack_wait"`
	MaxDeliver    int               `json:"max_deliver"`
	MaxAckPending int               `json:"max_ack_pending"`
	Filters       []string          `json:"filter_subjects"`
	ReplayPolicy  string            `json:"replay_policy"`
	Metadata      map[string]string `json:"metadata,omitempty"`
}

// serverAnswer is what the server's API answers.
type serverAnswer struct {
	Error *struct {
		Code        int    `json:"code"`
		ErrCode     int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
	Config  *consumer `json:"config"`
	Success bool      `json:"success"`
}

// Codes of the server.
const errNoConsumer = 10014

// durable finds or makes the consumer of a named subscription.
func (s *Subscription) durable(ctx context.Context, from *selection) (func(context.Context, func(*delivery) bool) error, error) {
	if !op.Token(s.name) || len(s.name) > maxName {
		return nil, mistake("", op.CodeBadID, "name", "the name %.80q is not 1 to %d characters out of A-Z a-z 0-9 _ -", s.name, maxName)
	}
	ctx, cancel := s.c.bounded(ctx)
	defer cancel()
	want := consumer{
		Durable: consumerPrefix + s.name, Name: consumerPrefix + s.name, Description: "A named handler of a client.",
		DeliverPolicy: "all", AckPolicy: "explicit", AckWait: ackWait, MaxDeliver: -1, MaxAckPending: 1000,
		Filters: from.query.Subjects, ReplayPolicy: "instant",
	}
	switch q := &from.query; {
	case q.FromSeq > 0:
		want.DeliverPolicy, want.StartSeq = "by_start_sequence", q.FromSeq
	case !q.Since.IsZero():
		since := q.Since.UTC()
		want.DeliverPolicy, want.StartTime = "by_start_time", &since
	}
	there, err := s.c.server(ctx, "CONSUMER.INFO."+bus.StreamEvents+"."+want.Name, nil)
	if err != nil {
		return nil, err
	}
	if there.Config != nil { // where it begins was said when it was made; what it selects may change
		want.DeliverPolicy, want.StartSeq, want.StartTime = there.Config.DeliverPolicy, there.Config.StartSeq, there.Config.StartTime
		want.Metadata = there.Config.Metadata
	}
	_, err = s.c.server(ctx, "CONSUMER.CREATE."+bus.StreamEvents+"."+want.Name, map[string]any{"stream_name": bus.StreamEvents, "config": want, "action": ""})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, yield func(*delivery) bool) error {
		return s.pull(ctx, want.Name, from.match, yield)
	}, nil
}

// server asks the server's API. That there is no such consumer is no error.
func (c *Client) server(ctx context.Context, verb string, body any) (a serverAnswer, err error) {
	var data []byte
	if body != nil {
		if data, err = op.Marshal(body); err != nil {
			return a, mistake("", op.CodeBadJSON, "", "%v", err)
		}
	}
	const api = "$JS.API."
	ctx, stop := c.permitted(ctx, api+verb+`"`)
	defer stop()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		tctx, cancel := context.WithTimeout(ctx, lookTimeout)
		r, err := c.nc.RequestWithContext(tctx, api+verb, data)
		cancel()
		if err == nil {
			err = json.Unmarshal(r.Data, &a)
		}
		switch {
		case err == nil && a.Error == nil, err == nil && a.Error.ErrCode == errNoConsumer:
			return a, nil
		case err == nil && a.Error.Code < 500:
			return a, mistake("", op.CodeBadValue, "name", "the server refused %s: %s", verb, a.Error.Description)
		case err == nil:
			err = errors.New(a.Error.Description)
		}
		if c.nc.IsClosed() || !sleep(ctx, pause) {
			if e := denied(ctx); e != nil {
				return a, e
			}
			return a, c.lost("", err, "no answer to "+api+verb)
		}
	}
}

// pull takes events until ctx ends, yield returns false or the consumer is gone.
func (s *Subscription) pull(ctx context.Context, name string, match func(*op.Event) bool, yield func(*delivery) bool) error {
	sub, err := s.c.nc.SubscribeSync(s.c.nc.NewInbox())
	if err != nil {
		return s.c.lost("", err, "the feed of events cannot be read")
	}
	defer giveBack(sub)
	next := "$JS.API.CONSUMER.MSG.NEXT." + bus.StreamEvents + "." + name
	for {
		// No more than there are free places: what waits here cannot be handled
		// by another process of the same name.
		select {
		case s.slots <- struct{}{}:
			<-s.slots
		case <-ctx.Done():
			return nil
		}
		batch := max(cap(s.slots)-len(s.slots), 1)
		request, err := op.Marshal(map[string]any{"batch": batch, "expires": pullWait, "idle_heartbeat": pullPulse})
		if err == nil {
			err = s.c.nc.PublishRequest(next, sub.Subject, request)
		}
		if err != nil {
			return s.c.lost("", err, "the feed of events broke off")
		}
		more, err := s.batch(ctx, sub, batch, match, yield)
		if errors.Is(err, nats.ErrNoResponders) {
			more, err = s.still(ctx, name)
		}
		if !more || err != nil {
			return err
		}
	}
}

// still asks whether the consumer is there, when nobody answered a request to it.
func (s *Subscription) still(ctx context.Context, name string) (bool, error) {
	there, err := s.c.server(ctx, "CONSUMER.INFO."+bus.StreamEvents+"."+name, nil)
	switch {
	case ctx.Err() != nil:
		return false, nil
	case err != nil:
		return false, err
	case there.Config == nil:
		return false, s.removed()
	}
	return sleep(ctx, lastPause), nil
}

func (s *Subscription) removed() error {
	return trouble("", ErrNotFound, nil, fmt.Sprintf("somebody has removed the handler %s", s.name))
}

// giveBack ends the subscription and returns what nobody has looked at.
func giveBack(sub *nats.Subscription) {
	n, _, _ := sub.Pending()
	for range n {
		m, err := sub.NextMsg(pullPulse)
		if err != nil {
			break
		}
		if len(m.Data) > 0 {
			_ = m.Nak() // if it is lost, the event comes back after ackWait
		}
	}
	_ = sub.Unsubscribe() // only fails when it is gone already
}

// batch takes the events of one request. more: ask again. The error is
// [nats.ErrNoResponders] where nobody got the request.
func (s *Subscription) batch(ctx context.Context, sub *nats.Subscription, left int, match func(*op.Event) bool, yield func(*delivery) bool) (more bool, err error) {
	for left > 0 {
		tctx, cancel := context.WithTimeout(ctx, pullSilent)
		m, err := sub.NextMsgWithContext(tctx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return false, nil
		case s.c.nc.IsClosed():
			return false, s.c.lost("", err, "the feed of events broke off")
		case errors.Is(err, nats.ErrNoResponders):
			return false, err
		case err != nil: // no sign of life: the request is lost
			return sleep(ctx, firstPause), nil
		}
		switch status := m.Header.Get("Status"); {
		case len(m.Data) > 0 || status == "":
			left--
			if d := s.delivered(m, match); d != nil && !yield(d) {
				return false, nil
			}
		case status == "100": // a sign of life
		case status == "503":
			return false, nats.ErrNoResponders
		case strings.Contains(m.Header.Get("Description"), "Consumer Deleted"):
			return false, s.removed()
		case status == "409": // not now: another leader, a server that stops
			return sleep(ctx, lastPause), nil
		default: // it has waited long enough
			return true, nil
		}
	}
	return true, nil
}

// delivered is a message as an event for the handler; nil for what it need not see.
func (s *Subscription) delivered(m *nats.Msg, match func(*op.Event) bool) *delivery {
	d := &delivery{
		tries: 1,
		// An acknowledgement that is lost brings the event back.
		ack:   func() { _ = m.Ack() },
		touch: func() { _ = m.InProgress() },
		nak: func(pause time.Duration) {
			if pause > 0 {
				_ = m.NakWithDelay(pause)
			} else {
				_ = m.Nak()
			}
		},
	}
	if !decodeEvent(m.Data, &d.event) || !match(&d.event) {
		d.ack()
		return nil
	}
	if meta, err := m.Metadata(); err == nil {
		d.tries = int(meta.NumDelivered)
	}
	return d
}

// Forget removes what is known of a named handler: the next one of that name begins
// anew. One that is at work ends with [ErrNotFound]. A name that nobody knows is no
// error.
func (c *Client) Forget(ctx context.Context, name string) error {
	if !op.Token(name) {
		return mistake("", op.CodeBadID, "name", "%.80q is not the name of a handler", name)
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.server(ctx, "CONSUMER.DELETE."+bus.StreamEvents+"."+consumerPrefix+name, nil)
	return err
}
