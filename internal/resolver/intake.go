package resolver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func partitionToken(p int) string { return strconv.Itoa(p) }

// maxTrace bounds a traceparent header, of which every operation of a message
// keeps a copy.
const maxTrace = 128

// take turns one intake message into inputs. Whatever is wrong with it becomes
// an Invalid input, so that the partition goes on and nothing is lost silently.
func (p *partition) take(g *gathered, m bus.IntakeMsg) {
	if m.Seq <= g.cursor {
		return // consumed before
	}
	g.cursor = m.Seq
	place := op.Place{Seq: m.Seq}
	var ops []op.Operation
	var errs []*op.Error
	var cause string // only a resolver's word counts
	var err error
	switch m.Kind {
	case bus.KindSubmit:
		ops, err = op.Decode(m.Data, m.Key, p.cfg.Types)
	case bus.KindFollow:
		ops, err = op.DecodeInternal(m.Data, m.Key, p.cfg.Types)
		cause = m.Header.Get(bus.HeaderCausedBy)
	case bus.KindBulk:
		ops, errs, err = op.DecodeBulk(m.Data, p.cfg.Types)
	case bus.KindCancel:
		p.takeCancel(g, m)
		return
	default:
		err = op.Errorf(op.CodeBadSubject, "", "the intake knows no messages of kind %.40q", string(m.Kind))
	}
	if err != nil {
		p.takeInvalid(g, m, place, "", err)
		return
	}
	trace := m.Header.Get("traceparent")
	if len(trace) > maxTrace {
		trace = "" // not a trace context (W3C: 55 characters)
	}
	for i := range ops {
		place.Index = i
		switch {
		case i < len(errs) && errs[i] != nil:
			p.takeInvalid(g, m, place, ops[i].ID, errs[i])
			continue
		case bus.PartitionOf(ops[i].Target, p.bus.Layout().Partitions) != p.id:
			p.takeInvalid(g, m, place, ops[i].ID, op.Errorf(op.CodeTargetDiffers, "target_entity_id",
				"target %.64q belongs to another partition than the subject", ops[i].Target))
			continue
		}
		if ops[i].ID == "" {
			ops[i].ID = op.DerivedID(m.Seq, i)
		}
		g.add(arbiter.Input{Submit: &arbiter.Submit{
			Place: place, Operation: ops[i], CausedBy: cause, Traceparent: trace,
		}}, submitBytes+len(trace))
	}
	g.bytes += len(m.Data)
}

func (p *partition) takeInvalid(g *gathered, m bus.IntakeMsg, place op.Place, opID string, err error) {
	e := op.AsError(err)
	if e == nil {
		e = op.Errorf(op.CodeBadJSON, "", "%s", err.Error())
	}
	target := m.Key
	if !op.Token(target) {
		target = ""
	}
	g.add(arbiter.Input{Invalid: &arbiter.Invalid{Place: place, Target: target, OpID: opID, Error: e}}, invalidBytes+len(e.Message)+len(e.Hint))
}

func (p *partition) takeCancel(g *gathered, m bus.IntakeMsg) {
	var body struct {
		OpID string `json:"op_id"`
	}
	place := op.Place{Seq: m.Seq}
	dec := json.NewDecoder(bytes.NewReader(m.Data))
	dec.DisallowUnknownFields()
	switch err := dec.Decode(&body); {
	case err != nil:
		p.takeInvalid(g, m, place, "", op.Errorf(op.CodeBadJSON, "", "a cancel is an object with op_id and nothing else"))
	case !op.Token(body.OpID):
		p.takeInvalid(g, m, place, "", op.Errorf(op.CodeBadID, "op_id", "op_id %.80q is not a token", body.OpID))
	default:
		g.add(arbiter.Input{Cancel: &arbiter.Cancel{Place: place, Target: m.Key, OpID: body.OpID}}, kinBytes)
	}
}

// receive takes one report from an executor. It runs on the connection's
// goroutine: when the partition is far behind, it waits, and the executor's
// repeated report is answered later.
func (p *partition) receive(ctx context.Context, data []byte, reply func([]byte)) {
	var r op.Result
	if err := json.Unmarshal(data, &r); err != nil || !op.Token(r.OpID) || r.Attempt < 1 {
		body, err := op.Marshal(op.Errorf(op.CodeBadJSON, "", "a result needs op_id and attempt"))
		if err == nil {
			reply(body)
		}
		return
	}
	in := report{
		result: arbiter.Result{
			OpID: r.OpID, Target: r.Target, Attempt: r.Attempt, Executor: r.Executor,
			Duration: r.Duration, Change: r.Change, Failure: r.Failure,
		},
		reply: reply,
	}
	limit(&in.result)
	in.bytes = resultBytes + len(in.result.Change)
	if f := in.result.Failure; f != nil {
		in.bytes += 3 * len(f.Message)
	}
	select {
	case p.results <- in:
	case <-ctx.Done():
	}
}

// Bounds of what a report may bring into the journal.
const (
	maxFailure = 4 << 10
	maxChange  = 400 << 10
)

// limit cuts the text of a failure, and refuses a change that no step can hold.
func limit(r *arbiter.Result) {
	if len(r.Change) > maxChange {
		r.Change = nil
		r.Failure = &op.Failure{
			Code: "change_too_large", Terminal: true,
			Message: fmt.Sprintf("the change has more than %d bytes", maxChange),
		}
	}
	if f := r.Failure; f != nil {
		f.Message = strings.ToValidUTF8(f.Message[:min(len(f.Message), maxFailure)], "")
		f.Code = strings.ToValidUTF8(f.Code[:min(len(f.Code), op.MaxToken)], "")
	}
	r.Executor = strings.ToValidUTF8(r.Executor[:min(len(r.Executor), op.MaxToken)], "")
}
