package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// Results has f called, from one goroutine, with every report and heartbeat on
// attempts of a partition. reply answers the executor and may be called later,
// from any goroutine, or never: the executor repeats its report until it is
// answered, so an owner answers only after the commit. stop ends the calls.
func (b *Bus) Results(partition int, f func(data []byte, reply func([]byte))) (stop func(), err error) {
	stop, err = b.listen(ResultSubject(partition), func(data []byte, reply func([]byte)) {
		failResult.Hit()
		f(data, func(answer []byte) {
			_ = aroundErr(failAnswer, func() error { reply(answer); return nil }) // an answer that is not given is asked for again
		})
	})
	if err != nil {
		return nil, fmt.Errorf("bus: results: %w", err)
	}
	return stop, nil
}

// listen has f called, from one goroutine, with every request on subject.
func (b *Bus) listen(subject string, f func(data []byte, reply func([]byte))) (stop func(), err error) {
	// No queue group: a former owner that still listens does not answer, and
	// must not swallow what is meant for the next one.
	sub, err := b.nc.Subscribe(subject, func(m *nats.Msg) {
		f(m.Data, func(answer []byte) {
			if m.Reply != "" {
				_ = m.Respond(answer) // unanswered: whoever asked repeats itself
			}
		})
	})
	if err != nil {
		return nil, err
	}
	if err := b.heard(sub); err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// heard waits until the server knows a subscription. A connection that breaks
// meanwhile tells it when it is back, though its flush fails with the error of one
// that is closed for good.
func (b *Bus) heard(sub *nats.Subscription) error {
	err := b.nc.Flush()
	if err == nil || !b.nc.IsClosed() {
		return nil
	}
	_ = sub.Unsubscribe()
	return err
}

// Report sends a report or a heartbeat to the owner of a partition and returns
// its answer. The errors of the client come through: [nats.ErrNoResponders] when
// nobody owns the partition now, [nats.ErrTimeout] or the context's when nobody
// answered.
func (b *Bus) Report(ctx context.Context, partition int, data []byte) ([]byte, error) {
	m, err := around(failReport, func() (*nats.Msg, error) {
		return b.nc.RequestWithContext(ctx, ResultSubject(partition), data)
	})
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}
