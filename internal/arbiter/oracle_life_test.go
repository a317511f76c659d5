package arbiter_test

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// input takes one input of a step.
func (o *oracle) input(in arbiter.Input) {
	switch {
	case in.Submit != nil:
		o.submit(in.Submit)
	case in.Kin != nil && in.Kin.Unknown:
		for _, c := range o.claims {
			if o.asks(c) == in.Kin.OpID && c.Seq <= in.Kin.Upto {
				c.answered = in.Kin.OpID
			}
		}
	case in.Kin != nil:
		if o.all[in.Kin.OpID] == nil {
			o.know(in.Kin.OpID, fact{in.Kin.Priority, in.Kin.Parent})
		}
	case in.Cancel != nil:
		o.cancel(in.Cancel)
	case in.Policy != nil:
		o.policy = *in.Policy
		for _, c := range o.open() {
			if c.pending() && !c.followUp() && !o.policy.Known(c.Operation.Type) {
				o.chore(c, func() {
					if c.pending() {
						o.reject(c, "unknown_type", "", "")
					}
				})
			}
		}
	case in.Result != nil:
		o.result(in.Result)
	case in.Beat != nil:
		if c := o.current(in.Beat.OpID, in.Beat.Attempt); c != nil {
			c.claimed, c.lease = true, o.leaseOf(c)
			o.say("%s may go on until %s", c.Operation.ID, c.lease.Sub(epoch))
		}
	}
}

// open are the claims that have no end yet, in the order of the log.
func (o *oracle) open() []*claim {
	left := slices.DeleteFunc(slices.Clone(o.claims), func(c *claim) bool { return c.state == "done" })
	slices.SortFunc(left, byLog)
	return left
}

// chore is told when all inputs are taken, unless c has ended by then.
func (o *oracle) chore(c *claim, do func()) {
	o.chores = append(o.chores, func() {
		if c.state != "done" {
			do()
		}
	})
}

func (o *oracle) submit(s *arbiter.Submit) {
	id := s.Operation.ID
	o.consumed = max(o.consumed, s.Seq)
	if o.all[id] != nil {
		o.say("%s is repeated", id)
		return
	}
	c := &claim{Submit: *s, accepted: o.now, expires: o.now.Add(o.policy.MaxOperationAge)}
	if d := s.Operation.Deadline; d != nil && o.now.Add(d.After).Before(c.expires) {
		c.expires = o.now.Add(d.After)
	}
	if p := o.allowed(&s.Operation); p != s.Operation.Priority && !c.followUp() {
		c.asked, c.Operation.Priority = s.Operation.Priority, p
	}
	o.claims, o.all[id] = append(o.claims, c), c
	if c.asked > 0 {
		o.say("%s is accepted with %d, asked %d", id, c.Operation.Priority, c.asked)
	} else {
		o.say("%s is accepted", id)
	}
	o.know(id, fact{c.Operation.Priority, c.Operation.Parent})
	if why := o.turnsAway(c); why != "" {
		o.reject(c, why, "", "")
		return
	}
	if c.followUp() || c.expires.After(o.now) {
		o.supersede(c)
	}
	o.stage(c)
}

// allowed is the nearest priority in the range of the type, and then the nearest
// to that in the range of the submitter.
func (o *oracle) allowed(s *op.Operation) op.Priority {
	p := s.Priority
	for _, r := range []arbiter.Range{o.policy.Types[s.Type].Range, o.policy.Submitters[s.Submitter]} {
		if p < r.Min {
			p = r.Min
		}
		if r.Max > 0 && p > r.Max {
			p = r.Max
		}
	}
	return p
}

// turnsAway says why c is not even staged.
func (o *oracle) turnsAway(c *claim) string {
	s := &c.Operation
	builtin := strings.Contains(" create_entity version_entity modify_field borrow_attribute complex_update promote_to_root detach_entity attach_entity delete_entity ", " "+s.Type+" ")
	_, registered := o.policy.Types[s.Type]
	switch {
	case c.followUp():
		return ""
	case !builtin && !registered:
		return "unknown_type"
	case o.policy.Stops(s.Type, s.Target):
		return "paused"
	case c.asked > 0 && o.policy.RefusePriority:
		return "invalid"
	case len(o.open()) > o.policy.MaxOpen:
		return "overloaded"
	}
	return ""
}

// supersede turns the older ones of c's kind away.
func (o *oracle) supersede(c *claim) {
	if o.choice(c) != "supersede" || c.Operation.Submitter == "" {
		return
	}
	for _, old := range o.open() {
		a, b := &c.Operation, &old.Operation
		if old != c && old.pending() && a.Target == b.Target && a.Type == b.Type && a.Submitter == b.Submitter {
			o.reject(old, "superseded", a.ID, "")
		}
	}
}

// reject ends c. Where its execution failed, so did the ones that were coalesced
// into it; otherwise they are staged again.
func (o *oracle) reject(c *claim, why, winner, from string) {
	o.leave(c)
	c.state = "done"
	text := c.Operation.ID + " is REJECTED " + why
	if winner != "" {
		text += " to " + winner
	}
	o.say("%s", text)
	if c.failed && (from == "failed" || why == "max_retries") {
		o.fail(c, why)
	} else {
		o.part(c)
	}
}

// riders lets go of those that were coalesced into c.
func (o *oracle) riders(c *claim) []*claim {
	var left []*claim
	for _, r := range o.open() {
		if r.leader == c {
			r.leader, r.state = nil, "settled"
			left = append(left, r)
		}
	}
	return left
}

func (o *oracle) part(c *claim) {
	for _, r := range o.riders(c) {
		o.chore(r, func() {
			o.say("%s is parted from %s", r.Operation.ID, c.Operation.ID)
			o.stage(r)
		})
	}
}

func (o *oracle) fail(c *claim, why string) {
	for _, r := range o.riders(c) {
		o.chore(r, func() {
			o.fail(r, why)
			r.failed = true
			o.reject(r, why, c.Operation.ID, "")
		})
	}
}

func (o *oracle) share(c *claim) {
	for _, r := range o.riders(c) {
		o.chore(r, func() {
			r.state = "done"
			o.say("%s is SUCCEEDED with %s", r.Operation.ID, c.Operation.ID)
			o.share(r)
		})
	}
}

func (o *oracle) cancel(in *arbiter.Cancel) {
	o.consumed = max(o.consumed, in.Seq)
	switch c := o.all[in.OpID]; {
	case in.OpID != "":
		if c == nil || c.state == "done" || c.Operation.Target != in.Target || c.followUp() {
			o.say("%s is refused", in.OpID)
			return
		}
		o.end(c, in.Alone)
	case len(in.Ancestors) > 0:
		for _, id := range in.Ancestors {
			o.cascade(id)
		}
	default:
		for _, c := range o.open() {
			if !c.followUp() && (in.All && c.Operation.Target == in.Target || in.Submitter != "" && in.Submitter == c.Operation.Submitter) {
				o.chore(c, func() { o.end(c, in.Alone) })
			}
		}
	}
}

// end cancels c on request: at once, or when its grace ends.
func (o *oracle) end(c *claim, alone bool) {
	if ends := c.granted.Add(o.policy.GracePeriod); c.state == "executing" && o.now.Before(ends) {
		if c.stop.IsZero() {
			c.stop, c.alone = ends, alone
		}
		o.say("%s is protected from a cancel by grace", c.Operation.ID)
		return
	}
	o.cancelled(c, "cancelled", alone)
}

func (o *oracle) cancelled(c *claim, why string, alone bool) {
	o.leave(c)
	o.say("%s is CANCELLED %s from %s", c.Operation.ID, why, map[bool]string{true: "PENDING", false: "EXECUTING"}[c.pending()])
	c.state = "done"
	o.part(c)
	if !alone {
		o.cascade(c.Operation.ID)
	}
}

// cascade takes the pending descendants of an operation along.
func (o *oracle) cascade(id string) {
	if _, known := o.cuts[id]; !known {
		o.cuts[id] = o.consumed
	}
	for _, c := range o.open() {
		family := c.family
		if c.state == "staged" {
			_, _, family, _ = o.climb(c)
		}
		if c.pending() && !c.followUp() && slices.Contains(family, id) {
			o.chore(c, func() { o.dragged(c, id) })
		}
	}
}

func (o *oracle) dragged(c *claim, id string) {
	if c.pending() {
		o.cancelled(c, "cancelled_with_parent of "+id, false)
	}
}

// severed: an ancestor of c was cancelled before it was known to be one.
func (o *oracle) severed(c *claim) {
	_, _, family, _ := o.climb(c)
	for _, id := range family {
		if upto, ok := o.cuts[id]; ok && c.Seq <= upto && !c.followUp() {
			o.chore(c, func() { o.dragged(c, id) })
			return
		}
	}
}

// current returns the operation whose current attempt this is.
func (o *oracle) current(id string, attempt int) *claim {
	if c := o.all[id]; c != nil && c.state == "executing" && c.attempt == attempt {
		return c
	}
	o.say("%s is refused", id)
	return nil
}

func (o *oracle) result(r *arbiter.Result) {
	c := o.current(r.OpID, r.Attempt)
	switch {
	case c == nil:
	case r.Failure == nil:
		c.state = "done"
		o.say("%s is SUCCEEDED", r.OpID)
		o.share(c)
	default:
		o.say("%s failed", r.OpID)
		c.failed = true
		switch {
		case r.Failure.Terminal:
			o.reject(c, cmp.Or(string(r.Failure.Reason), "terminal_error"), "", "failed")
		case c.retries >= *c.Operation.MaxRetries:
			o.reject(c, "max_retries", "", "failed")
		default:
			o.away(c, 1)
			if !c.stop.IsZero() {
				o.cancelled(c, "cancelled", c.alone)
			}
		}
	}
}

// pass lets everything happen that is due, earliest first, and then decides.
func (o *oracle) pass() {
	o.steps++
	o.work()
	type event struct {
		at   time.Time
		kind int
		c    *claim
	}
	var events []event
	for _, c := range o.open() {
		if !c.followUp() && !c.spent && !c.expires.After(o.now) {
			events = append(events, event{c.expires, 0, c})
		}
		if c.state == "executing" && !c.lease.After(o.now) {
			events = append(events, event{c.lease, 1, c})
		}
		if c.state == "executing" && !c.stop.IsZero() && !c.stop.After(o.now) {
			events = append(events, event{c.stop, 2, c})
		}
		if draws := o.due[c.Operation.ID]; c.state == "away" && c.trips <= len(draws) && !draws[c.trips-1].After(o.now) {
			events = append(events, event{draws[c.trips-1], 3, c})
		}
	}
	slices.SortFunc(events, func(a, b event) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.kind, b.kind), strings.Compare(a.c.Operation.ID, b.c.Operation.ID))
	})
	for _, e := range events {
		switch {
		case e.c.state == "done":
		case e.kind == 0 && e.c.state == "executing":
			e.c.spent = true
		case e.kind == 0:
			o.reject(e.c, "expired", "", "")
		case e.kind == 1:
			o.lapse(e.c)
		case e.kind == 2 && e.c.state == "executing":
			o.cancelled(e.c, "cancelled", e.c.alone)
		case e.kind == 3:
			o.stage(e.c)
		}
	}
	o.work()
	o.decideAll(false)
	for o.contest() {
		o.decideAll(true)
	}
	o.claims = slices.DeleteFunc(o.claims, func(c *claim) bool { return c.state == "done" })
}

// work tells what is settled; what that settles in turn comes after it.
func (o *oracle) work() {
	for len(o.chores) > 0 {
		next := o.chores[0]
		o.chores = o.chores[1:]
		next()
	}
}

func (o *oracle) lapse(c *claim) {
	o.say("%s lapsed, claimed %v", c.Operation.ID, c.claimed)
	c.lapses++
	if c.claimed {
		c.failed = true
	}
	switch {
	case !c.followUp() && !c.expires.After(o.now):
		o.reject(c, "expired", "", "")
	case !c.stop.IsZero():
		c.state = "away"
		o.cancelled(c, "cancelled", c.alone)
	case c.claimed && c.retries >= *c.Operation.MaxRetries:
		o.reject(c, "max_retries", "", "")
	case c.claimed:
		o.away(c, 1)
	default:
		o.away(c, 0)
	}
}

// contest asks whoever waits and is stronger, without what waiting is worth, than
// the one that executes. It reports whether somebody was preempted.
func (o *oracle) contest() (preempted bool) {
	for _, c := range o.open() {
		target := c.Operation.Target
		var by *claim
		strongest := c.strength
		for _, s := range o.contenders(target) {
			if best, _, _, _ := o.climb(s); best > strongest {
				by, strongest = s, best
			}
		}
		if c.state != "executing" || by == nil {
			continue
		}
		ends := c.granted.Add(o.policy.GracePeriod)
		yields := o.policy.Preemption && c.Operation.Preemptible && !c.followUp() && c.preemptions < o.policy.MaxPreemptions
		switch {
		case !yields:
			o.protect(c, by, "executing")
		case ends.After(o.now):
			o.protect(c, by, "grace")
		case o.closes[target].After(o.now) || o.blocked(target) || !c.stop.IsZero():
		case o.again(c):
			c.futile = true
		case c.futile && !slices.Contains(o.yielded, c.Operation.ID): // nobody has asked since
		default:
			c.preemptions++
			o.say("%s is preempted by %s", c.Operation.ID, by.Operation.ID)
			o.stage(c)
			preempted = true
		}
	}
	return preempted
}

// again reports whether c would win the next decision by its waiting.
func (o *oracle) again(c *claim) bool {
	best := o.contenders(c.Operation.Target)[0]
	return cmp.Or(cmp.Compare(o.total(c), o.total(best)), byLog(best, c)) > 0
}

func (o *oracle) protect(c, by *claim, kind string) {
	if !c.told[kind] {
		c.told[kind] = true
		o.say("%s is protected from %s by %s", c.Operation.ID, by.Operation.ID, kind)
	}
}
