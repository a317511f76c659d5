package arbiter_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// oracle is the contract read naively: it keeps lists, and computes and sorts
// everything again whenever it is asked. It shares nothing with the machine but
// the inputs. Backoff delays are drawn by the machine and told to it, and so is
// the order in which it decides targets that became resolvable in the same step.
type oracle struct {
	policy arbiter.Policy
	claims []*claim // open operations, in the order of arrival
	all    map[string]*claim
	facts  map[string]fact
	opened map[string]time.Time
	closes map[string]time.Time
	due    map[string][]time.Time // the machine's draws, by operation
	since  map[string]int         // the step in which a target became resolvable
	order  []string               // the machine's choice among those of one step
	steps  int
	now    time.Time
	said   []string
}

type fact struct {
	priority op.Priority
	parent   string
}

type claim struct {
	arbiter.Submit
	state    string // staged, away, executing, done
	answered string // ancestor that nobody knows
	attempt  int
	retries  int
	trips    int // how often it was sent away
	expires  time.Time
	lease    time.Time
	granted  time.Time
	stop     time.Time   // a cancel waits until then
	told     bool        // what protects its current attempt
	strength op.Priority // effective, when it was promoted
	spent    bool        // its expiry came while it was executing
}

// followUp: the other side of a structural operation may not be lost.
func (c *claim) followUp() bool { return c.Operation.Type == op.TypeFollowUp }

func newOracle() *oracle {
	return &oracle{
		policy: arbiter.DefaultPolicy(), all: map[string]*claim{}, facts: map[string]fact{},
		opened: map[string]time.Time{}, closes: map[string]time.Time{}, due: map[string][]time.Time{}, since: map[string]int{},
	}
}

func (o *oracle) say(format string, args ...any) {
	o.said = append(o.said, fmt.Sprintf(format, args...))
}

// rank is the effective priority of an operation, why, and where the walk over
// its ancestors ended for want of knowledge.
func (o *oracle) rank(c *claim) (best op.Priority, why, missing string) {
	best = c.Operation.Priority
	if c.Operation.Parent == "" {
		return best, "", ""
	}
	var path []string
	met := []string{c.Operation.ID}
	for id := c.Operation.Parent; id != ""; id = o.facts[id].parent {
		if slices.Contains(met, id) {
			return best, why + " cycle", ""
		}
		if len(met) > 32 {
			return best, why + " cut", ""
		}
		f, known := o.facts[id]
		if !known {
			return best, why + " unknown:" + id, id
		}
		met, path = append(met, id), append(path, id)
		if f.priority > best {
			best, why = f.priority, strings.Join(path, ">")
		}
	}
	return best, why, ""
}

// staged returns the staging area of a target, best first.
func (o *oracle) staged(target string) []*claim {
	var area []*claim
	effective := map[*claim]op.Priority{}
	for _, c := range o.claims {
		if c.Operation.Target == target && c.state == "staged" {
			area = append(area, c)
			effective[c], _, _ = o.rank(c)
		}
	}
	slices.SortFunc(area, func(a, b *claim) int {
		return cmp.Or(cmp.Compare(effective[b], effective[a]), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Index, b.Index))
	})
	return area
}

// asks returns the ancestor that c waits for, if it does.
func (o *oracle) asks(c *claim) string {
	if c.state != "staged" || c.Operation.Parent == "" {
		return ""
	}
	if _, _, missing := o.rank(c); missing != c.answered {
		return missing
	}
	return ""
}

func (o *oracle) resolvable(target string) bool {
	if o.count(target, "staged") == 0 || o.count(target, "executing") > 0 || o.closes[target].After(o.now) {
		return false
	}
	return !slices.ContainsFunc(o.claims, func(c *claim) bool { return c.Operation.Target == target && o.asks(c) != "" })
}

// decideAll lets the targets be decided that have been resolvable for the most
// steps, as long as another operation may execute.
func (o *oracle) decideAll() {
	o.steps++
	var ready, seen []string
	for _, c := range o.claims {
		target := c.Operation.Target
		if slices.Contains(seen, target) {
			continue
		}
		seen = append(seen, target)
		if !o.resolvable(target) {
			delete(o.since, target)
			continue
		}
		ready = append(ready, target)
		if o.since[target] == 0 {
			o.since[target] = o.steps
		}
	}
	chosen := func(target string) int {
		if i := slices.Index(o.order, target); i >= 0 {
			return i
		}
		return len(o.order)
	}
	slices.SortStableFunc(ready, func(a, b string) int {
		return cmp.Or(cmp.Compare(o.since[a], o.since[b]), cmp.Compare(chosen(a), chosen(b)))
	})
	for _, target := range ready {
		if o.count("", "executing") < o.policy.MaxExecuting {
			delete(o.since, target)
			o.decide(target)
		}
	}
}

// decide applies rules 3 to 5 to a staging area that may be resolved.
func (o *oracle) decide(target string) {
	area := o.staged(target)
	winner := area[0]
	best, why, _ := o.rank(winner)
	rule := "only_contender"
	if len(area) > 1 {
		rule = "effective_priority"
		if second, _, _ := o.rank(area[1]); second == best {
			rule = "log_order"
		}
	}
	o.say("%s: %s wins by %s out of %d", target, winner.Operation.ID, rule, len(area))
	o.say("%s: %s %d %q won", target, winner.Operation.ID, best, why)
	winner.state, winner.lease, winner.attempt = "executing", o.now.Add(o.policy.AttemptTimeout), winner.attempt+1
	winner.granted, winner.told, winner.stop, winner.strength = o.now, false, time.Time{}, best
	if !winner.followUp() && winner.expires.Before(winner.lease) {
		winner.lease = winner.expires
	}
	o.say("%s executes attempt %d", winner.Operation.ID, winner.attempt)
	queued := 0
	for _, c := range area[1:] {
		effective, why, _ := o.rank(c)
		reason, verdict := "later_submission", string(c.Operation.OnConflict)
		if effective < best {
			reason = "lower_priority"
		}
		switch {
		case verdict == "queue":
			if queued++; queued > 16 {
				continue
			}
			verdict = "queued"
		case verdict == "retry" && c.retries < *c.Operation.MaxRetries:
			o.away(c, 1)
		case verdict == "retry":
			verdict = "rejected"
			o.over(c, "REJECTED max_retries to "+winner.Operation.ID)
		default:
			verdict = "rejected"
			o.over(c, "REJECTED "+reason+" to "+winner.Operation.ID)
		}
		o.say("%s: %s %d %q %s %s", target, c.Operation.ID, effective, why, verdict, reason)
	}
}

func (o *oracle) over(c *claim, how string) {
	c.state = "done"
	o.say("%s is %s", c.Operation.ID, how)
}

func (o *oracle) away(c *claim, cost int) {
	c.state, c.answered, c.retries, c.trips = "away", "", c.retries+cost, c.trips+1
	o.say("%s waits for retry %d", c.Operation.ID, c.retries)
}

// count is over all targets when none is named.
func (o *oracle) count(target, state string) (n int) {
	for _, c := range o.claims {
		if c.state == state && (target == "" || c.Operation.Target == target) {
			n++
		}
	}
	return n
}

func (o *oracle) stage(c *claim) {
	if !c.followUp() && !c.expires.After(o.now) {
		o.over(c, "REJECTED expired")
		return
	}
	target := c.Operation.Target
	window := o.policy.StagingWindow
	if w, ok := o.policy.WindowByType[c.Operation.Type]; ok {
		window = w
	}
	longest := 0
	for prefix, w := range o.policy.WindowByPrefix {
		if strings.HasPrefix(target, prefix) && len(prefix) > longest {
			longest, window = len(prefix), w
		}
	}
	if o.count(target, "staged") == 0 {
		o.opened[target], o.closes[target] = o.now, o.now.Add(window)
	} else if w := o.opened[target].Add(window); w.Before(o.closes[target]) {
		o.closes[target] = w
	}
	c.state, c.answered = "staged", ""
	o.shed(target)
}

// shed turns the lowest ranks away until the limit is kept, but never the best
// and never the other side of a structural operation.
func (o *oracle) shed(target string) {
	over := o.count(target, "staged") - o.policy.MaxStaged
	if over <= 0 {
		return
	}
	area := o.staged(target)
	for i := len(area) - 1; i > 0 && over > 0; i-- {
		if !area[i].followUp() {
			over--
			o.over(area[i], "REJECTED staging_full")
		}
	}
}

// know notes a fact about an ancestor. Where it was missed, the ranks change.
func (o *oracle) know(id string, f fact) {
	var targets []string
	for _, c := range o.claims {
		if c.state != "staged" || c.Operation.Parent == "" {
			continue
		}
		if _, _, missing := o.rank(c); missing == id && !slices.Contains(targets, c.Operation.Target) {
			targets = append(targets, c.Operation.Target)
		}
	}
	o.facts[id] = f
	for _, target := range targets {
		o.shed(target)
	}
}

// input takes one input of a step.
func (o *oracle) input(in arbiter.Input) {
	switch {
	case in.Submit != nil:
		id := in.Submit.Operation.ID
		if o.all[id] != nil {
			o.say("%s is repeated", id)
			return
		}
		c := &claim{Submit: *in.Submit, expires: o.now.Add(o.policy.MaxOperationAge)}
		if d := in.Submit.Operation.Deadline; d != nil && o.now.Add(d.After).Before(c.expires) {
			c.expires = o.now.Add(d.After)
		}
		o.claims, o.all[id] = append(o.claims, c), c
		o.know(id, fact{in.Submit.Operation.Priority, in.Submit.Operation.Parent})
		o.say("%s is accepted", id)
		o.stage(c)
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
		c := o.all[in.Cancel.OpID]
		switch {
		case c == nil || c.Operation.Target != in.Cancel.Target || c.state == "done" || c.followUp():
			o.say("%s is refused", in.Cancel.OpID)
		case c.state == "executing" && o.now.Before(c.granted.Add(o.policy.GracePeriod)):
			if c.stop.IsZero() {
				c.stop = c.granted.Add(o.policy.GracePeriod)
			}
			o.say("%s is protected from a cancel by grace", c.Operation.ID)
		default:
			o.over(c, "CANCELLED cancelled")
		}
	case in.Policy != nil:
		o.policy = *in.Policy
	case in.Result != nil:
		o.result(in.Result)
	}
}

func (o *oracle) result(r *arbiter.Result) {
	c := o.all[r.OpID]
	switch {
	case c == nil || c.state != "executing" || c.attempt != r.Attempt:
		o.say("%s is refused", r.OpID)
	case r.Failure == nil:
		o.over(c, "SUCCEEDED")
	case r.Failure.Terminal:
		o.say("%s failed", r.OpID)
		o.over(c, "REJECTED terminal_error")
	case c.retries >= *c.Operation.MaxRetries:
		o.say("%s failed", r.OpID)
		o.over(c, "REJECTED max_retries")
	default:
		o.say("%s failed", r.OpID)
		o.away(c, 1)
		if !c.stop.IsZero() {
			o.over(c, "CANCELLED cancelled")
		}
	}
}

// pass lets everything happen that is due, earliest first, and then decides.
func (o *oracle) pass() {
	type event struct {
		at   time.Time
		kind int
		c    *claim
	}
	var events []event
	for _, c := range o.claims {
		if c.state == "done" {
			continue
		}
		if !c.followUp() && !c.spent && !c.expires.After(o.now) {
			events = append(events, event{c.expires, 0, c})
		}
		if c.state == "executing" && !c.lease.After(o.now) {
			events = append(events, event{c.lease, 1, c})
		}
		if c.state == "executing" && !c.stop.IsZero() && !c.stop.After(o.now) {
			events = append(events, event{c.stop, 2, c})
		}
		if c.state == "away" && c.trips <= len(o.due[c.Operation.ID]) && !o.due[c.Operation.ID][c.trips-1].After(o.now) {
			events = append(events, event{o.due[c.Operation.ID][c.trips-1], 3, c})
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
			o.over(e.c, "REJECTED expired")
		case e.kind == 1:
			o.lapse(e.c)
		case e.kind == 2 && e.c.state == "executing":
			o.over(e.c, "CANCELLED cancelled")
		case e.kind == 2:
		default:
			o.stage(e.c)
		}
	}
	o.decideAll()
	o.contest()
	o.claims = slices.DeleteFunc(o.claims, func(c *claim) bool { return c.state == "done" })
}

func (o *oracle) lapse(c *claim) {
	o.say("%s lapsed", c.Operation.ID)
	switch {
	case !c.followUp() && !c.expires.After(o.now):
		o.over(c, "REJECTED expired")
	case !c.stop.IsZero():
		o.over(c, "CANCELLED cancelled")
	default:
		o.away(c, 0)
	}
}

// contest says what protects whoever executes while somebody stronger waits.
func (o *oracle) contest() {
	for _, c := range o.claims {
		if c.state != "executing" || c.told {
			continue
		}
		if area := o.staged(c.Operation.Target); len(area) > 0 {
			if best, _, _ := o.rank(area[0]); best > c.strength {
				c.told = true
				o.say("%s is protected from %s by executing", c.Operation.ID, area[0].Operation.ID)
			}
		}
	}
}
