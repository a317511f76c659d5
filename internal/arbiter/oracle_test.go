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
	policy   arbiter.Policy
	claims   []*claim // open operations, in the order of arrival
	all      map[string]*claim
	facts    map[string]fact
	cuts     map[string]uint64 // cancelled with their descendants, and how much was consumed by then
	consumed uint64
	opened   map[string]time.Time
	closes   map[string]time.Time
	due      map[string][]time.Time // the machine's draws, by operation
	since    map[string]int         // the step in which a target became resolvable
	order    []string               // the machine's choice among those of one step
	yielded  []string               // what the machine preempted in this step
	chores   []func()               // what is settled and told after all inputs
	steps    int
	now      time.Time
	said     []string
}

type fact struct {
	priority op.Priority
	parent   string
}

type claim struct {
	arbiter.Submit
	state       string // staged, away, executing, riding, settled, done
	asked       op.Priority
	accepted    time.Time
	expires     time.Time
	answered    string   // ancestor that nobody knows
	family      []string // ancestors, as far as they were known when it left the staging area
	attempt     int
	retries     int
	lapses      int
	preemptions int
	trips       int // how often it was sent away
	failed      bool
	leader      *claim // the one it was coalesced into
	spent       bool   // its expiry came while it was executing
	attemptState
}

// attemptState belongs to the current attempt.
type attemptState struct {
	granted  time.Time
	lease    time.Time
	claimed  bool
	strength op.Priority // effective without waiting, when it was promoted
	stop     time.Time   // a cancel waits until then
	alone    bool        // and spares the descendants
	told     map[string]bool
	futile   bool // was not preempted, because it would have won again
}

// followUp: the other side of a structural operation may not be lost.
func (c *claim) followUp() bool { return c.Operation.Type == op.TypeFollowUp }

func (c *claim) pending() bool { return c.state != "executing" && c.state != "done" }

func newOracle() *oracle {
	return &oracle{
		policy: arbiter.DefaultPolicy(), all: map[string]*claim{}, facts: map[string]fact{}, cuts: map[string]uint64{},
		opened: map[string]time.Time{}, closes: map[string]time.Time{}, due: map[string][]time.Time{}, since: map[string]int{},
	}
}

func (o *oracle) say(format string, args ...any) {
	o.said = append(o.said, fmt.Sprintf(format, args...))
}

// climb walks over the ancestors of an operation: its effective priority, why,
// whom it met, and where it ended for want of knowledge.
func (o *oracle) climb(c *claim) (best op.Priority, why string, met []string, missing string) {
	best = c.Operation.Priority
	for id := c.Operation.Parent; id != ""; id = o.facts[id].parent {
		if id == c.Operation.ID || slices.Contains(met, id) {
			return best, why + " cycle", met, ""
		}
		if len(met) == 32 {
			return best, why + " cut", met, ""
		}
		met = append(met, id)
		f, known := o.facts[id]
		if !known {
			return best, why + " unknown:" + id, met, id
		}
		if f.priority > best {
			best, why = f.priority, strings.Join(met, ">")
		}
	}
	return best, why, met, ""
}

// boost is what waiting is worth.
func (o *oracle) boost(c *claim) int {
	if o.policy.Aging.Every == 0 {
		return 0
	}
	best, _, _, _ := o.climb(c)
	if c.state == "executing" {
		best = c.strength
	}
	n := 0
	for t := c.accepted.Add(o.policy.Aging.Every); !t.After(o.now) && n < 10; t = t.Add(o.policy.Aging.Every) {
		n++
	}
	return min(n*o.policy.Aging.Step, o.policy.Aging.Max, int(10-best))
}

// total is the effective priority with what waiting is worth.
func (o *oracle) total(c *claim) op.Priority {
	best, _, _, _ := o.climb(c)
	if c.state == "executing" {
		best = c.strength
	}
	return best + op.Priority(o.boost(c))
}

// staged returns the staging area of a target, best first.
func (o *oracle) staged(target string) []*claim {
	var area []*claim
	rank := map[*claim]op.Priority{}
	for _, c := range o.claims {
		if c.Operation.Target == target && c.state == "staged" {
			area = append(area, c)
			rank[c] = o.total(c)
		}
	}
	slices.SortFunc(area, func(a, b *claim) int { return cmp.Or(cmp.Compare(rank[b], rank[a]), byLog(a, b)) })
	return area
}

func byLog(a, b *claim) int { return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Index, b.Index)) }

// contenders are the staged ones that an operator does not hold back.
func (o *oracle) contenders(target string) []*claim {
	return slices.DeleteFunc(o.staged(target), func(c *claim) bool {
		return !c.followUp() && o.policy.Stops(c.Operation.Type, target)
	})
}

// asks returns the ancestor that c waits for, if it does.
func (o *oracle) asks(c *claim) string {
	if c.state != "staged" || c.Operation.Parent == "" {
		return ""
	}
	if _, _, _, missing := o.climb(c); missing != c.answered {
		return missing
	}
	return ""
}

// blocked reports whether somebody on the target waits for an answer.
func (o *oracle) blocked(target string) bool {
	return slices.ContainsFunc(o.claims, func(c *claim) bool { return c.Operation.Target == target && o.asks(c) != "" })
}

func (o *oracle) resolvable(target string) bool {
	return len(o.contenders(target)) > 0 && o.count(target, "executing") == 0 && !o.closes[target].After(o.now) && !o.blocked(target)
}

// decideAll lets the targets be decided that have been resolvable for the most
// steps, as long as another operation may execute; where places have got free by
// preemption, those that the machine still looked at, and the others in the next
// step.
func (o *oracle) decideAll(freed bool) {
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
		if freed {
			return cmp.Compare(chosen(a), chosen(b))
		}
		return cmp.Or(cmp.Compare(o.since[a], o.since[b]), cmp.Compare(chosen(a), chosen(b)))
	})
	for _, target := range ready {
		if freed && !slices.Contains(o.order, target) {
			continue
		}
		if o.count("", "executing") < o.policy.MaxExecuting {
			delete(o.since, target)
			if i := slices.Index(o.order, target); i >= 0 {
				o.order = slices.Delete(o.order, i, i+1)
			}
			o.decide(target)
		}
	}
}

func (o *oracle) leaseOf(c *claim) time.Time {
	lease := o.now.Add(o.policy.AttemptTimeout)
	if t := o.policy.Types[c.Operation.Type].AttemptTimeout; t > 0 {
		lease = o.now.Add(t)
	}
	if !c.followUp() && c.expires.Before(lease) {
		lease = c.expires
	}
	return lease
}

// decide applies rules 3 to 6 to a staging area that may be resolved.
func (o *oracle) decide(target string) {
	area := o.contenders(target)
	winner := area[0]
	best := o.total(winner)
	rule := "only_contender"
	if len(area) > 1 {
		rule = "effective_priority"
		if o.total(area[1]) == best {
			rule = "log_order"
		}
	}
	o.say("%s: %s wins by %s out of %d", target, winner.Operation.ID, rule, len(area))
	o.listed(winner, "won")
	strength, _, _, _ := o.climb(winner)
	o.leave(winner)
	winner.state, winner.attempt = "executing", winner.attempt+1
	winner.attemptState = attemptState{granted: o.now, lease: o.leaseOf(winner), strength: strength, told: map[string]bool{}}
	o.say("%s executes attempt %d", winner.Operation.ID, winner.attempt)
	queued := 0
	for _, c := range area[1:] {
		before := len(o.said)
		verdict := o.lose(c, winner, best)
		if strings.HasPrefix(verdict, "queued") {
			if queued++; queued > 16 {
				continue
			}
		}
		after := slices.Clone(o.said[before:])
		o.said = o.said[:before]
		o.listed(c, verdict)
		o.said = append(o.said, after...)
	}
}

// listed says what a decision tells of one contender.
func (o *oracle) listed(c *claim, verdict string) {
	state := c.state
	c.state = "staged"
	total, boost := o.total(c), o.boost(c)
	_, why, _, _ := o.climb(c)
	c.state = state
	o.say("%s: %s %d boost %d asked %d %q %s", c.Operation.Target, c.Operation.ID, total, boost, c.asked, why, verdict)
}

// choice is what becomes of c where it loses.
func (o *oracle) choice(c *claim) op.Conflict {
	if own := o.policy.Types[c.Operation.Type].OnConflict; own != "" {
		return own
	}
	return c.Operation.OnConflict
}

func (o *oracle) lose(c, winner *claim, best op.Priority) string {
	reason := "later_submission"
	if o.total(c) < best {
		reason = "lower_priority"
	}
	id := winner.Operation.ID
	switch choice := o.choice(c); {
	case choice == "coalesce" && same(&c.Operation, &winner.Operation):
		o.leave(c)
		c.state, c.leader = "riding", winner
		o.say("%s is coalesced into %s", c.Operation.ID, id)
		return "coalesced coalesced"
	case c.preemptions > 0:
		return "queued preempted"
	case choice == "retry" && c.retries < *c.Operation.MaxRetries:
		o.away(c, 1)
		return "retry " + reason
	case choice == "retry":
		o.reject(c, "max_retries", id, "")
		return "rejected " + reason
	case choice == "reject":
		o.reject(c, reason, id, "")
		return "rejected " + reason
	}
	return "queued " + reason
}

// leave notes the ancestors that c had, which count until it is staged again.
func (o *oracle) leave(c *claim) {
	if c.state == "staged" {
		_, _, c.family, _ = o.climb(c)
	}
}

func (o *oracle) away(c *claim, cost int) {
	o.leave(c)
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
		o.reject(c, "expired", "", "")
		return
	}
	if !c.followUp() && !o.policy.Known(c.Operation.Type) {
		o.reject(c, "unknown_type", "", "")
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
	c.state, c.answered, c.leader = "staged", "", nil
	o.severed(c)
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
			o.reject(area[i], "staging_full", "", "")
		}
	}
}

// know notes a fact about an ancestor. Where it was missed, the ranks change.
func (o *oracle) know(id string, f fact) {
	var missed []*claim
	for _, c := range o.claims {
		if c.state != "staged" || c.Operation.Parent == "" {
			continue
		}
		if _, _, _, missing := o.climb(c); missing == id {
			missed = append(missed, c)
		}
	}
	slices.SortFunc(missed, byLog)
	o.facts[id] = f
	var targets []string
	for _, c := range missed {
		o.severed(c)
		if !slices.Contains(targets, c.Operation.Target) {
			targets = append(targets, c.Operation.Target)
		}
	}
	for _, target := range targets {
		o.shed(target)
	}
}
