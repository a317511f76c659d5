package client

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Outcome is how an operation ended. It is final: whoever asks, now or later,
// gets the same.
type Outcome struct {
	OpID   string
	OpType string
	Target string
	Status op.Status // SUCCEEDED, REJECTED or CANCELLED
	Reason op.Reason // why not SUCCEEDED; coalesced says that an identical one did it
	Code   string    // OPS-2xxx of the reason
	Winner string    // who won where this one lost, or whose outcome it shares
	// Decision is the last decision that names it; [Client.Explain] shows it.
	Decision string
	Version  uint64      // of the entity after success
	Revision uint64      // of the entity after success
	Error    *op.Failure // the last real error of an attempt
	Attempts int
	Retries  int
	// RetryAfter is when it is worth submitting again under another id, for
	// overloaded and staging_full.
	RetryAfter time.Duration
	At         time.Time // of the end
	// Record is all that the system keeps about it.
	Record op.Record
}

// Err is nil for an operation that succeeded. Otherwise it is an [*Error] with one
// of [ErrLost], [ErrFailed], [ErrStale], [ErrCancelled], [ErrExpired],
// [ErrOverloaded], [ErrPaused], [ErrNotAllowed] and [ErrInvalid].
func (o *Outcome) Err() error {
	kind := kindOfEnd(&o.Record)
	if kind == nil {
		return nil
	}
	e := &Error{
		OpID: o.OpID, Code: o.Code, Reason: o.Reason, Winner: o.Winner, RetryAfter: o.RetryAfter,
		Message: string(o.Status) + " " + string(o.Reason), kinds: []error{kind},
	}
	if o.Error != nil {
		e.Message += ": " + o.Error.Message
		e.cause = o.Error
	}
	return e
}

func outcome(r *op.Record) Outcome {
	return Outcome{
		OpID: r.OpID, OpType: r.OpType, Target: r.Target, Status: r.Status, Reason: r.Reason, Code: r.Reason.Code(),
		Winner: r.Winner, Decision: r.Decision, Version: r.Version, Revision: r.Revision, Error: r.Error,
		Attempts: r.Attempt, Retries: r.RetryCount, RetryAfter: time.Duration(r.RetryAfterMS) * time.Millisecond,
		At: r.UpdatedAt, Record: *r,
	}
}

// Status returns the record of an operation as it is now; [ErrNotFound] where
// there is none. Records are kept for a week unless set up otherwise.
func (c *Client) Status(ctx context.Context, opID string) (op.Record, error) {
	if !op.Token(opID) {
		return op.Record{}, mistake("", op.CodeBadID, "op_id", "op_id %.80q is not an id", opID)
	}
	return ask[op.Record](ctx, c, &question{verb: "status", arg: opID, opID: opID})
}

// How long the record of an operation may take to appear after its submission,
// and the pauses between two looks when nothing is heard.
const (
	appear    = 2 * time.Second
	firstLook = 2 * time.Millisecond
	quietLook = 100 * time.Millisecond // while an event would tell
	lastLook  = 2 * time.Second
	// lookTimeout bounds one look; another one follows.
	lookTimeout = 5 * time.Second
)

// Await waits until an operation has ended and returns how. One that ended long
// ago is answered at once from its record. It waits as long as ctx lives: an error
// says nothing about the operation, which goes on. It is [ErrNotFound] when there
// is no record two seconds after the call, so that an id that nobody submitted
// does not wait for ever; [Handle.Await] knows better. It is [ErrInvalid] when a
// handle's id turns out to be that of an operation on another target.
func (c *Client) Await(ctx context.Context, opID string) (Outcome, error) {
	if !op.Token(opID) {
		return Outcome{}, mistake("", op.CodeBadID, "op_id", "op_id %.80q is not an id", opID)
	}
	return c.await(ctx, &sought{id: opID})
}

// sought is an operation that somebody waits for.
type sought struct {
	id       string
	target   string // "" until it is known
	accepted bool   // by our own knowledge

	news <-chan op.Event // nil until the target is known
	stop func()
	end  *op.Event // the terminal event, if it was heard
}

func (c *Client) await(ctx context.Context, s *sought) (Outcome, error) {
	defer func() {
		if s.stop != nil {
			s.stop()
		}
	}()
	began, pause := time.Now(), firstLook
	for {
		listening := c.listen(s)
		r, err := c.look(ctx, s)
		switch {
		case err == nil && s.target != "" && r.Target != s.target:
			return Outcome{}, mistake(s.id, op.CodeBadID, "op_id", "the id %s belongs to an operation on %s, not on %s", s.id, r.Target, s.target)
		case err == nil && r.Status.Terminal():
			return outcome(&r), nil
		case err != nil && s.end != nil:
			return outcome(recordOf(s.end)), nil // the event says the same, if less
		case err == nil:
			s.accepted = true
			if s.target = r.Target; !listening {
				continue // what happened before we listen is on record when we look again
			}
		case isAny(err, ErrNotFound):
			if !s.accepted && time.Since(began) > appear {
				return Outcome{}, err
			}
		case isAny(err, ErrClosed, ErrPermission, ErrInvalid):
			return Outcome{}, err
		}
		if listening {
			pause = max(pause, quietLook)
		}
		if !s.wait(ctx, pause) {
			return Outcome{}, waitEnded(ctx, s.id)
		}
		pause = min(2*pause, lastLook)
	}
}

// waitEnded is the error of a wait that has ended before the operation. It is that
// of the context, since nothing else is wrong.
func waitEnded(ctx context.Context, opID string) *Error {
	cause := context.Cause(ctx)
	return &Error{OpID: opID, Message: "not known to have ended: " + cause.Error(), cause: cause}
}

// listen begins to listen for the end, once the target is known, and reports
// whether it does.
func (c *Client) listen(s *sought) bool {
	if s.news == nil && s.target != "" {
		s.news, s.stop = c.hub.join(s.target, s.id)
	}
	return s.news != nil
}

// look asks for the record once.
func (c *Client) look(ctx context.Context, s *sought) (r op.Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	q := &question{verb: "status", arg: s.id, opID: s.id}
	data, err := c.try(ctx, q)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if e := op.AsError(err); e != nil {
		return r, refusal(s.id, e)
	}
	switch {
	case err == nil:
		return r, nil
	case c.nc.IsClosed():
		return r, trouble(s.id, ErrClosed, err, "the connection is closed")
	case c.forbidden(q):
		return r, trouble(s.id, ErrPermission, c.nc.LastError(), "the server refused "+q.subject())
	}
	return r, trouble(s.id, ErrUnavailable, err, "no answer")
}

// wait waits for news, a while, or the end of ctx, which it reports as false.
func (s *sought) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case e := <-s.news:
		s.end = &e
		return true
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// recordOf is what a terminal event says about its operation.
func recordOf(e *op.Event) *op.Record {
	r := &op.Record{
		Type: op.RecordType, OpID: e.OpID, OpType: e.OpType, Target: e.Target, Status: e.Status, Reason: e.Reason, Code: e.Code,
		Priority: e.Priority, Effective: e.Effective, Winner: e.Winner, Decision: e.Decision, Attempt: e.Attempt, Error: e.Error,
		Version: e.Version, Revision: e.Revision, CausedBy: e.CausedBy, JournalSeq: e.Seq, UpdatedAt: e.At, RetryAfterMS: e.RetryAfterMS,
	}
	if e.RetryCount != nil {
		r.RetryCount = *e.RetryCount
	}
	if e.MaxRetries != nil {
		r.MaxRetries = *e.MaxRetries
	}
	return r
}

func isAny(err error, kinds ...error) bool {
	for _, k := range kinds {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

func isUnknown(err error) bool { return errors.Is(err, ErrUnknown) }

// decodeEvent reads an event; false for what is none.
func decodeEvent(data []byte, e *op.Event) bool {
	return json.Unmarshal(data, e) == nil && e.Type == op.EventType
}
