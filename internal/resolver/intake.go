package resolver

import (
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
		ops, err = p.decode(m)
	case bus.KindFollow:
		ops, err = op.DecodeInternal(m.Data, m.Key, p.registry.Types())
		cause = m.Header.Get(bus.HeaderCausedBy)
	case bus.KindBulk:
		ops, errs, err = p.decodeBulk(m)
	case bus.KindCancel:
		p.takeCancel(g, m)
		return
	case bus.KindControl:
		p.takeControl(g, m)
		return
	default:
		err = op.Errorf(op.CodeBadSubject, "", "the intake knows no messages of kind %.40q", string(m.Kind))
	}
	if err != nil {
		p.takeInvalid(g, m, place, "", err)
		return
	}
	trace := m.Header.Get("traceparent")
	if len(trace) > maxTrace || strings.ContainsFunc(trace, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
		trace = "" // not a trace context (W3C: 55 characters); what JSON has to escape would grow in the journal
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

// decode reads one operation or an array, which is accepted or refused as a whole,
// with the types and schemas of the policy in force.
func (p *partition) decode(m bus.IntakeMsg) ([]op.Operation, error) {
	ops, err := op.Decode(m.Data, m.Key, p.registry.Types())
	if err != nil {
		return nil, err
	}
	for i := range ops {
		if e := p.registry.Check(&ops[i]); e != nil {
			if len(ops) > 1 {
				e.Field = fmt.Sprintf("[%d].%s", i, e.Field)
			}
			return nil, e
		}
	}
	return ops, nil
}

// decodeBulk reads many operations, each of which is accepted or refused by
// itself.
func (p *partition) decodeBulk(m bus.IntakeMsg) (ops []op.Operation, errs []*op.Error, err error) {
	ops, errs, err = op.DecodeBulk(m.Data, p.registry.Types())
	for i := range ops {
		if errs[i] == nil {
			errs[i] = p.registry.Check(&ops[i])
		}
	}
	return ops, errs, err
}

func (p *partition) takeInvalid(g *gathered, m bus.IntakeMsg, place op.Place, opID string, err error) {
	e := op.AsError(err)
	if e == nil {
		e = op.Errorf(op.CodeBadJSON, "", "%s", err.Error())
	}
	target := m.Key
	if !op.Token(target) || m.Kind == bus.KindControl {
		target = ""
	}
	g.add(arbiter.Input{Invalid: &arbiter.Invalid{Place: place, Target: target, OpID: opID, Error: e}}, invalidBytes+len(e.Message)+len(e.Hint))
}
