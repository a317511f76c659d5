package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/rebuild"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// check judges a history while it happens: every step of the journal goes through
// the auditor and through the machine that recomputes it as soon as it is stored.
type check struct {
	w        *world
	auditor  *audit.Auditor
	fold     *rebuild.Fold
	seq      uint64
	tips     []tip
	stepIDs  map[string]bool
	accepted map[string]bool   // ids that were submitted, as the journal has them
	invalid  map[uint64]bool   // intake messages that were refused, by sequence
	results  map[string]bool   // attempts whose result counted
	acked    map[string]uint64 // ids that a client was told are safe, with their place
	ackedBad map[uint64]bool   // messages without an operation that a client was told are safe
	claimed  map[string]bool   // attempts whose result an executor was told counted
	seen     map[string]string // how an operation ended, as a reader was told
	failed   []string
}

// tip is how far a partition has come.
type tip struct{ step, cursor uint64 }

func newCheck(w *world) *check {
	c := &check{
		w: w, fold: rebuild.NewFold(time.Time{}), tips: make([]tip, w.partitions), stepIDs: map[string]bool{}, accepted: map[string]bool{},
		invalid: map[uint64]bool{}, results: map[string]bool{}, acked: map[string]uint64{}, ackedBad: map[uint64]bool{}, claimed: map[string]bool{}, seen: map[string]string{},
	}
	c.auditor = audit.New(audit.Options{
		PartitionOf: func(target string) int { return bus.PartitionOf(target, w.partitions) },
		Partitions:  w.partitions,
		Replay:      c.replay,
		Events:      true,
	})
	return c
}

// fail notes a violation.
func (c *check) fail(invariant, format string, args ...any) {
	c.failed = append(c.failed, invariant+": "+fmt.Sprintf(format, args...))
}

// step judges a message of the journal.
func (c *check) step(m *message) {
	p, err := bus.ParseJournal(m.subject)
	if err != nil {
		panic(err) // the model stores no other subjects
	}
	c.seq = m.seq
	c.stepIDs[first(m.header, bus.HeaderStepID)] = true
	c.auditor.Raw(m.seq, p, m.data)
	if r := c.auditor.Report(); !r.OK() {
		for i := range r.Violations {
			c.failed = append(c.failed, r.Violations[i].String())
		}
	}
}

// replay takes a step that was decoded: it folds it, and notes what it promises.
func (c *check) replay(s *arbiter.Step) error {
	c.tips[s.Partition] = tip{s.Number, s.Cursor}
	for i := range s.In {
		switch in := &s.In[i]; {
		case in.Submit != nil:
			c.accepted[in.Submit.Operation.ID] = true
		case in.Invalid != nil:
			c.invalid[in.Invalid.Seq] = true
		}
	}
	for i := range s.Out {
		switch e := &s.Out[i]; {
		case e.Succeeded != nil:
			c.results[attemptKey(e.Succeeded.OpID, e.Succeeded.Attempt)] = true
		case e.Failed != nil:
			c.results[attemptKey(e.Failed.OpID, e.Failed.Attempt)] = true
		case e.Rejected != nil:
			c.w.stats.reason(string(e.Rejected.Reason), 1)
		case e.Cancelled != nil:
			c.w.stats.reason(string(e.Cancelled.Reason), 1)
		}
	}
	return c.fold.Step(c.seq, s)
}

func attemptKey(opID string, attempt int) string { return fmt.Sprintf("%s/%d", opID, attempt) }

// told notes what an executor was answered.
func (c *check) told(data, answer []byte) {
	var r op.Result
	var a op.ResultAck
	if json.Unmarshal(data, &r) == nil && r.Type == op.ResultType && json.Unmarshal(answer, &a) == nil && a.Accepted {
		c.claimed[attemptKey(a.OpID, a.Attempt)] = true
	}
}

// read notes what a reader was told of an operation.
func (c *check) read(data []byte) {
	var r op.Record
	if json.Unmarshal(data, &r) != nil || !r.Status.Terminal() {
		return
	}
	end := fmt.Sprintf("%s %s attempt %d revision %d", r.Status, r.Reason, r.Attempt, r.Revision)
	if before, ok := c.seen[r.OpID]; ok && before != end {
		c.fail("clients.read", "%s ended as %s, and later as %s", r.OpID, before, end)
	}
	c.seen[r.OpID] = end
}

// quiet reports whether nothing is under way any more.
func (c *check) quiet() bool {
	if c.auditor.Awaited() > 0 {
		return false
	}
	for p, tip := range c.tips {
		filter := intakeFilter(p)
		if m := c.w.intake.newest(filter, c.w.intake.last); m != nil && m.seq > tip.cursor {
			return false
		}
		mark := c.w.buckets["OPS_MARKS"].newest(fmt.Sprintf("$KV.OPS_MARKS.p%d", p), ^uint64(0))
		if tip.step > 0 && (mark == nil || string(mark.data) != fmt.Sprint(tip.step)) {
			return false
		}
	}
	return true
}

// open names what is still under way.
func (c *check) open() string {
	var left []string
	for id, data := range c.fold.Wanted(rebuild.Operations) {
		var r op.Record
		if json.Unmarshal(data, &r) == nil && !r.Status.Terminal() {
			left = append(left, fmt.Sprintf("%s %s attempt %d", id, r.Status, r.Attempt))
		}
	}
	return fmt.Sprintf("%d awaited; tips %v; %s", c.auditor.Awaited(), c.tips, strings.Join(left, ", "))
}

// finish judges the history as a whole.
func (c *check) finish() {
	if len(c.failed) > 0 {
		return
	}
	c.views()
	c.events()
	r := c.auditor.Finish(true)
	for i := range r.Violations {
		c.failed = append(c.failed, r.Violations[i].String())
	}
	for _, id := range slices.Sorted(maps.Keys(c.acked)) {
		if !c.accepted[id] && !c.invalid[c.acked[id]] {
			c.fail("clients.lost", "%s was acknowledged at %d and is not in the journal", id, c.acked[id])
		}
	}
	for seq := range c.ackedBad {
		if !c.invalid[seq] {
			c.fail("clients.lost", "message %d was acknowledged and is neither accepted nor refused", seq)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.claimed)) {
		if !c.results[key] {
			c.fail("clients.result", "an executor was told that attempt %s counts, and it does not", key)
		}
	}
	c.ends()
	c.count(&r)
}

// events has the auditor compare everything that was told with the steps.
func (c *check) events() {
	for _, m := range c.w.events.msgs {
		name, token, err := bus.ParseEvent(m.subject)
		var e op.Event
		if err = errors.Join(err, json.Unmarshal(m.data, &e)); err != nil {
			c.fail("views.event", "%s: %v", m.subject, err)
			continue
		}
		c.auditor.CheckEvent(name, token, &e)
	}
	for p := range c.tips {
		c.auditor.UntoldEvents(p, 0)
	}
}

// views compares every view with what the journal leads to, byte for byte.
func (c *check) views() {
	for _, v := range []struct {
		view   rebuild.View
		bucket string
	}{{rebuild.Entities, "OPS_ENTITIES"}, {rebuild.Operations, "OPS_OPERATIONS"}, {rebuild.Dead, "OPS_DEAD"}} {
		bucket := c.w.buckets[v.bucket]
		wanted := map[string]bool{}
		for key, want := range c.fold.Wanted(v.view) {
			subject := "$KV." + v.bucket + "." + key
			wanted[subject] = true
			m := bucket.newest(subject, ^uint64(0))
			switch {
			case m == nil && want == nil, m != nil && want == nil && first(m.header, headerKV) != "":
			case m == nil || want == nil || first(m.header, headerKV) != "":
				c.fail("views."+string(v.view), "%s is there: %v, the journal leads to one: %v", key, m != nil, want != nil)
			case !bytes.Equal(m.data, want):
				c.fail("views."+string(v.view), "%s is\n%s\nand the journal leads to\n%s", key, m.data, want)
			}
		}
		for subject := range bucket.by {
			if !wanted[subject] {
				c.fail("views."+string(v.view), "the journal does not lead to %s", subject)
			}
		}
	}
}

// ends compares what readers were told with how the operations ended.
func (c *check) ends() {
	for id, data := range c.fold.Wanted(rebuild.Operations) {
		if _, ok := c.seen[id]; ok {
			c.read(data)
		}
	}
}

// count takes the figures of the report into the statistics.
func (c *check) count(r *audit.Report) {
	s := c.w.stats
	s.Operations, s.Repeated, s.Acknowledged, s.Invalid = r.Operations, r.Repeated, len(c.acked), r.Invalid
	s.Succeeded, s.Rejected, s.Cancelled = r.Succeeded, r.Rejected, r.Cancelled
	s.Steps, s.Decisions, s.Attempts, s.Retries, s.Lapsed = r.Steps, r.Decisions, r.Attempts, r.Retries, r.Lapsed
	s.Extended, s.Preempted, s.Protected, s.Refused = r.Extended, r.Preempted, r.Protected, r.Refused
	s.Effects, s.Coalesced = r.Effects, r.Coalesced
	for id := range c.accepted {
		if op.Reserved(id) {
			s.FollowUps++
		}
	}
	for _, id := range c.w.doubts {
		if c.stepIDs[id] {
			s.UnknownCommitted++
		} else {
			s.UnknownNever++
		}
	}
}
