package submitter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Pauses between two looks at the records of operations that are waited for. An
// event shortens the wait to the first.
const (
	firstLook = 2 * time.Millisecond
	lastLook  = time.Second
	// appear is how long a record may take to appear after its submission.
	appear = time.Second
)

// Await waits until every operation has ended, or ctx, and returns the records
// of those that have one, in order, and whether all have ended. target, that of
// all of them, lets it listen to events for speed; "" makes it learn the target
// first. It believes only records. It is for a few operations; package await is
// for many.
func (s *Submitter) Await(ctx context.Context, target string, ids ...string) (records []op.Record, done bool) {
	s.metrics.Waiting.Inc()
	started := time.Now()
	defer func() {
		s.metrics.Waiting.Dec()
		s.metrics.WaitSeconds.Observe(time.Since(started).Seconds())
	}()
	found := make([]op.Record, len(ids))
	news := make(chan struct{}, 1)
	pause := firstLook
	var sub *nats.Subscription
	defer func() {
		if sub != nil {
			_ = sub.Unsubscribe() // only fails when it is gone already
		}
	}()
	for {
		if target = cmp.Or(target, targetOf(found)); sub == nil && target != "" {
			sub = s.listen(target, ids, news)
		}
		done = s.look(ctx, ids, found)
		if done || ctx.Err() != nil {
			break
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
			pause = min(2*pause, lastLook)
		case <-news:
			pause = firstLook
		case <-ctx.Done():
		}
		t.Stop()
	}
	return slices.DeleteFunc(found, func(r op.Record) bool { return r.OpID == "" }), done
}

// look reads the records that have not ended, and reports whether all have.
func (s *Submitter) look(ctx context.Context, ids []string, found []op.Record) bool {
	all := true
	for i, id := range ids {
		if found[i].Status.Terminal() {
			continue
		}
		if r, ok, err := s.record(ctx, id); err == nil && ok {
			found[i] = r
		}
		all = all && found[i].Status.Terminal()
	}
	return all
}

func targetOf(found []op.Record) string {
	for i := range found {
		if found[i].Target != "" {
			return found[i].Target
		}
	}
	return ""
}

// listen gives notice of every event that names one of the operations. Without
// it, an answer only comes a little later.
func (s *Submitter) listen(target string, ids []string, news chan<- struct{}) *nats.Subscription {
	names := make([][]byte, len(ids))
	for i, id := range ids {
		names[i] = []byte(`"` + id + `"`)
	}
	sub, err := s.bus.Conn().Subscribe(bus.EventFilter("operation.*", target), func(m *nats.Msg) {
		if slices.ContainsFunc(names, func(n []byte) bool { return bytes.Contains(m.Data, n) }) {
			select {
			case news <- struct{}{}:
			default: // one notice is enough
			}
		}
	})
	if err != nil {
		return nil
	}
	return sub
}

func (s *Submitter) record(ctx context.Context, id string) (r op.Record, found bool, err error) {
	data, found, err := s.bus.Record(ctx, id)
	if err != nil || !found {
		return r, false, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, false, fmt.Errorf("submitter: record of %s: %w", id, err)
	}
	return r, true, nil
}

// find reads the record of an operation, which may be about to appear: its
// submission may have been acknowledged a moment ago.
func (s *Submitter) find(ctx context.Context, id string) (op.Record, error) {
	pause := firstLook
	for until := time.Now().Add(appear); ; pause *= 2 {
		r, found, err := s.record(ctx, id)
		if err != nil {
			return r, fmt.Errorf("%w: %w", op.Errorf(op.CodeUnavailable, "", "the record of the operation could not be read"), err)
		}
		if found {
			return r, nil
		}
		if time.Now().After(until) || !wait(ctx, pause) {
			return r, op.Errorf(op.CodeNotFound, "op_id", "no operation %s is on record", id)
		}
	}
}
