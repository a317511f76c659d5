package arbiter

import (
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// CodeNotAllowed is the code of the failure of an operation whose priority is
// outside what the policy allows.
const CodeNotAllowed = "priority_not_allowed"

// submit takes an operation in. Whatever is accepted gets a terminal record, one
// that is turned away at once as well.
func (m *Machine) submit(s *Submit) {
	id := s.Operation.ID
	m.consumed = max(m.consumed, s.Place.Seq)
	if s.Known || m.Remembers(id) {
		m.emit(Effect{Repeated: &Repeated{OpID: id, Place: s.Place}})
		return
	}
	e := &entry{op: s.Operation, place: s.Place, causedBy: s.CausedBy, traceparent: s.Traceparent, status: op.Pending, accepted: m.at}
	m.ops[id] = e
	accepted := &Accepted{OpID: id}
	if !e.followUp() {
		if p := m.policy.Allowed(e.op.Type, e.op.Submitter, e.op.Priority); p != e.op.Priority {
			e.asked, e.op.Priority = e.op.Priority, p
			accepted.Asked, accepted.Priority = e.asked, p
		}
	}
	e.effective = e.op.Priority
	e.judge(&m.policy)
	m.emit(Effect{Accepted: accepted})
	if !e.followUp() {
		m.setExpiry(e)
	}
	m.adopt(id)
	if no := m.admit(e); no != nil {
		m.reject(e, no)
		return
	}
	if e.expires.IsZero() || e.expires.After(m.at) { // else it takes nobody's place
		m.supersede(e)
	}
	m.stage(e)
}

// setExpiry arms the end of e's deadline or age. The other sides of structural
// operations have none: their first sides are done.
func (m *Machine) setExpiry(e *entry) {
	e.expires = m.at.Add(m.policy.MaxOperationAge)
	if d := e.op.Deadline; d != nil {
		if t := d.Resolve(m.at); t.Before(e.expires) {
			e.expires = t
		}
	}
	m.arm(&e.expiry, timer{at: e.expires, kind: timerExpiry, key: e.op.ID, entry: e})
}

// admit returns why e cannot be staged, or nil.
func (m *Machine) admit(e *entry) *Rejected {
	p := &m.policy
	switch {
	case e.followUp():
		return nil
	case e.unknown:
		return &Rejected{Reason: op.UnknownType}
	case p.Stops(e.op.Type, e.op.Target):
		return &Rejected{Reason: op.Paused}
	case e.asked > 0 && p.RefusePriority:
		return &Rejected{Reason: op.Invalid, Failure: &op.Failure{
			Code: CodeNotAllowed, Terminal: true, Reason: op.Invalid,
			Message: fmt.Sprintf("priority %d is not allowed to submitter %q for %s; the nearest that is, is %d", e.asked, e.op.Submitter, e.op.Type, e.op.Priority),
		}}
	case p.MaxOpen > 0 && len(m.ops) > p.MaxOpen:
		return &Rejected{Reason: op.Overloaded, RetryAfter: p.RetryAfter()}
	}
	return nil
}

// RetryAfter is when it is worth submitting again what there was no room for: a
// fifth of the longest backoff, a second by default.
func (p *Policy) RetryAfter() time.Duration { return p.RetryMax / 5 }

// supersede rejects the older pending operations of the same submitter, type and
// target, where the operator chose so for the type (ADR 0008).
func (m *Machine) supersede(e *entry) {
	key, ok := m.rivalry(e)
	if !ok {
		return
	}
	for _, old := range m.rivals[key].inOrder() {
		switch {
		case old.status != op.Pending || old == e:
		case m.size < MaxEffectBytes:
			m.replace(old, e.op.ID)
		default: // the operator has just chosen so, and there were many
			m.chores = append(m.chores, chore{Kind: choreSupersede, OpID: old.op.ID, From: e.op.ID})
		}
	}
	m.rivals[key] = m.rivals[key].with(e)
}

// replace ends an operation in favour of a newer one.
func (m *Machine) replace(old *entry, by string) {
	m.unstage(old)
	m.reject(old, &Rejected{Reason: op.Superseded, Winner: by, Failure: old.failure})
}

// rivalry is the key under which operations supersede each other.
func (m *Machine) rivalry(e *entry) (key string, ok bool) {
	if e.op.Submitter == "" || e.choice != op.OnConflictSupersede {
		return "", false
	}
	return e.op.Target + "\x00" + e.op.Type + "\x00" + e.op.Submitter, true
}

// adoptPolicy puts a policy into force and has everything looked at that may be
// different now.
func (m *Machine) adoptPolicy(p *Policy) {
	aged := p.Aging != m.policy.Aging
	m.policy = *p
	clear(m.rivals)
	for _, e := range m.sorted() {
		e.judge(p)
		if key, ok := m.rivalry(e); ok {
			m.rivals[key] = m.rivals[key].with(e)
		}
		if e.status == op.Pending && e.unknown {
			m.chores = append(m.chores, chore{Kind: choreUnknown, OpID: e.op.ID})
		}
		t := m.targets[e.op.Target]
		if t == nil || !e.staged {
			continue
		}
		if aged && t.staged[0] == e {
			m.age(t)
		}
		if t.executing != nil || !t.closes.After(m.at) {
			m.touch(t)
		}
	}
}
