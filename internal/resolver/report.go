package resolver

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// report is a result or a heartbeat that waits for its commit, with the way to
// answer it. Exactly one of result and beat is set.
type report struct {
	result *arbiter.Result
	beat   *arbiter.Beat
	reply  func([]byte)
	bytes  int
}

// receive takes one report from an executor. It runs on the connection's
// goroutine: when the partition is far behind, it waits, and the executor's
// repeated report is answered later.
func (p *partition) receive(ctx context.Context, data []byte, reply func([]byte)) {
	var r op.Result // a heartbeat has some of its members
	if err := json.Unmarshal(data, &r); err != nil || !op.Token(r.OpID) || !op.Token(r.Target) || r.Attempt < 1 {
		body, err := op.Marshal(op.Errorf(op.CodeBadJSON, "", "a result or a heartbeat needs op_id, target_entity_id and attempt"))
		if err == nil {
			reply(body)
		}
		return
	}
	in := report{reply: reply, bytes: resultBytes}
	if r.Type == op.BeatType {
		in.beat = &arbiter.Beat{OpID: r.OpID, Target: r.Target, Attempt: r.Attempt, Executor: executor(r.Executor)}
	} else {
		in.result = &arbiter.Result{
			OpID: r.OpID, Target: r.Target, Attempt: r.Attempt, Executor: executor(r.Executor),
			Duration: r.Duration, Change: r.Change, Failure: r.Failure,
		}
		limit(in.result)
		in.bytes += len(in.result.Change)
		if f := in.result.Failure; f != nil {
			in.bytes += 3 * len(f.Message)
		}
	}
	p.hand(ctx, in)
}

// hand gives a report to the partition. That of a crowded target may have to wait, so
// that the others have processor time.
func (p *partition) hand(ctx context.Context, in report) {
	give := func() {
		select {
		case p.results <- in:
		case <-ctx.Done():
		}
	}
	if r := in.result; r != nil {
		if d := p.pace.hold(r.Target, p.crowds.has(r.Target)); d > 0 {
			time.AfterFunc(d, give)
			return
		}
	}
	give()
}

func (g *gathered) report(r report) {
	g.add(arbiter.Input{Result: r.result, Beat: r.beat}, r.bytes)
	g.owner[len(g.owner)-1] = len(g.reports)
	g.reports = append(g.reports, r)
}

// answer tells each executor what became of its report, now that it is durable.
func (p *partition) answer(s *arbiter.Step, g *gathered) {
	if len(g.reports) == 0 {
		return
	}
	refused := map[int]string{}
	leases := map[int]*arbiter.Extended{}
	for i := range s.Out {
		if r := s.Out[i].Refused; r != nil {
			refused[r.Input] = r.Why
		} else if x := s.Out[i].Extended; x != nil {
			leases[x.Input] = x
		}
	}
	for i, n := range g.owner {
		if n < 0 {
			continue
		}
		r := &g.reports[n]
		why, no := refused[i]
		ack := op.ResultAck{Type: op.AckType, Accepted: !no, Why: why}
		counted := p.cfg.Metrics.Results
		if r.beat != nil {
			counted = p.cfg.Metrics.Heartbeats
			ack.OpID, ack.Attempt = r.beat.OpID, r.beat.Attempt
			if x := leases[i]; x != nil {
				ack.Lease = x.LeaseEnds.Sub(s.At)
			}
		} else {
			ack.OpID, ack.Attempt = r.result.OpID, r.result.Attempt
		}
		outcome := "accepted"
		if no {
			outcome = "refused"
		}
		counted.WithLabelValues(outcome).Inc()
		body, err := op.Marshal(ack)
		if err == nil {
			r.reply(body)
		}
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
	if why := unfit(r.Change); why != "" {
		r.Change = nil
		r.Failure = &op.Failure{Code: "bad_change", Terminal: true, Message: "the reported change is " + why}
	}
	if f := r.Failure; f != nil {
		f.Message = strings.ToValidUTF8(f.Message[:min(len(f.Message), maxFailure)], "")
		f.Code = strings.ToValidUTF8(f.Code[:min(len(f.Code), op.MaxToken)], "")
		if f.Reason != op.StaleVersion && f.Reason != op.Invalid {
			f.Reason = "" // the others are the resolver's to give
		}
	}
}

// maxChangeDepth is how deeply a change may be nested: the value of a field, and
// what is around it.
const maxChangeDepth = op.MaxDepth + 8

// unfit says why a change cannot be let into the journal, whatever becomes of its
// attempt: a step that nobody can read again would end the partition.
func unfit(change []byte) string {
	switch {
	case len(change) == 0:
		return ""
	case !utf8.Valid(change):
		return "not UTF-8"
	case op.Depth(change) > maxChangeDepth:
		return fmt.Sprintf("nested deeper than %d levels", maxChangeDepth)
	}
	return ""
}

// executor cuts a name that nobody has checked.
func executor(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), op.MaxToken)], "")
}
