package submitter

import (
	"context"
	"errors"
	"net/textproto"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/service"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// endpoint is one verb of the API.
type endpoint struct {
	verb, about string
	handle      func(context.Context, micro.Request) (any, error)
	args        []string                  // tokens of the subject after the verb
	turnAway    func(micro.Request) error // what is refused without waiting for anything; nil: nothing
}

func (v *server) endpoints() []endpoint {
	return []endpoint{
		{"submit", "Submit one operation, or an array on one target.", v.submit, nil, v.turnAway},
		{"bulk", "Submit an array of independent operations, each accepted or refused by itself.", v.bulk, nil, nil},
		{"cancel", `Cancel: {"op_id": …}, {"target_entity_id": …, "all": true} or {"submitter": …}; "cascade": false spares descendants.`, v.cancel, nil, nil},
		{"retry", `Submit a dead operation again: {"op_id": …}.`, v.retry, nil, nil},
		{"whatif", "What would become of an operation if it were submitted now. Nothing is stored.", v.whatIf, nil, nil},
		{"operation", "An operation as it was submitted, with its params: ops.api.operation.<op>.", v.original, []string{"*"}, nil},
	}
}

// turnAway refuses a submission for which there is no room. Any other mistake of it is
// for submit to find.
func (v *server) turnAway(r micro.Request) error {
	e := v.s.noRoom(r.Data())
	if e == nil {
		return nil
	}
	if _, _, err := manner(r); err != nil {
		return nil
	}
	v.s.count("nats", e)
	return e
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
// submission is durable is true whatever comes after. When too many wait already,
// it answers at once.
func (v *server) waited(ctx context.Context, target string, acc op.Accepted, timeout time.Duration) Waited {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case v.waits <- struct{}{}:
		defer func() { <-v.waits }()
	default:
		cancel()
	}
	defer context.AfterFunc(v.waiting, cancel)()
	records, done := v.s.Await(ctx, target, acc.OpIDs...)
	return Waited{Accepted: acc, Done: done, Records: records}
}

// bulk handles ops.api.bulk.
func (v *server) bulk(ctx context.Context, r micro.Request) (any, error) {
	_, timeout, err := manner(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(timeout, publishTimeout))
	defer cancel()
	return v.s.Bulk(ctx, r.Data(), header(r, HeaderTrace))
}

// whatIf handles ops.api.whatif.
func (v *server) whatIf(ctx context.Context, r micro.Request) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return v.s.WhatIf(ctx, r.Data())
}

// original handles ops.api.operation.<op>.
func (v *server) original(ctx context.Context, r micro.Request) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	return v.s.Original(ctx, strings.TrimPrefix(r.Subject(), bus.APISubject("operation")+"."))
}

// retry handles ops.api.retry.
func (v *server) retry(ctx context.Context, r micro.Request) (any, error) {
	wait, timeout, err := manner(r)
	if err != nil {
		return nil, err
	}
	req, err := decodeRetry(r.Data())
	if err != nil {
		return nil, err
	}
	pctx, cancel := context.WithTimeout(ctx, min(timeout, publishTimeout))
	defer cancel()
	started := time.Now()
	again, err := v.s.Retry(pctx, req.OpID, header(r, HeaderTrace))
	v.s.count("nats", err)
	if err != nil || !wait {
		return again, err
	}
	return v.waited(ctx, again.Target, again.Accepted, timeout-time.Since(started)), nil
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
	if wait && req.OpID == "" {
		return nil, op.Errorf(op.CodeBadValue, HeaderWait, "only the cancellation of one operation can be waited for")
	}
	started := time.Now()
	pctx, cancel := context.WithTimeout(ctx, min(timeout, publishTimeout))
	defer cancel()
	if req.OpID != "" && req.Target == "" {
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
	acc, err := v.s.CancelAll(pctx, req)
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

// answer sends the answer itself: micro's own request is only to be answered
// before its handler returns, since micro looks at it afterwards.
func (v *server) answer(r micro.Request, body any, err error) {
	m := &nats.Msg{Subject: r.Reply(), Header: nats.Header{}}
	if err != nil {
		e := op.AsError(err)
		if e == nil {
			e = op.Errorf(op.CodeUnavailable, "", "the request failed: %v", err)
		}
		if e.Code == op.CodeUnavailable && !errors.Is(err, context.Canceled) {
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
Ask what would become of it, without submitting it:
  nats req ops.api.whatif '…'
Straight into the log, without any program of ours in between:
  nats pub -J ops.submit.user-42 '{"op_type":"modify_field","priority":"HIGH","params":{"field_name":"counter","new_value":1}}'
Cancel one, all on an entity, all of a submitter; with pending descendants, unless "cascade" is false:
  nats req ops.api.cancel '{"op_id":"…"}'
  nats req ops.api.cancel '{"target_entity_id":"user-42","all":true}'
  nats req ops.api.cancel '{"submitter":"nightly"}'
Try a dead operation again, under a new id:
  nats req ops.api.retry '{"op_id":"…"}'
Follow:
  nats req ops.api.status.<op_id> ''      nats req ops.api.operation.<op_id> ''
  nats sub 'ops.event.operation.rejected.>'      nats kv get OPS_ENTITIES user-42 --raw

Fields: op_type (required), target_entity_id, op_id (send the same id again to repeat safely), params, priority 1-10 or
BACKGROUND LOW NORMAL HIGH CRITICAL, parent_op_id, source_entity_id, max_retries, on_conflict reject|queue|retry,
preemptible, deadline, expected_version, labels. An array of operations on one target is accepted or refused as a whole.
Errors have a code OPS-1xxx, and retry_after_ms where it is worth trying again: hierarchy errors OPS-1003.
`
