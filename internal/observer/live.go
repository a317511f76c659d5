package observer

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// The memory of the live audit is bounded a partition: a quarter more than what a
// partition itself remembers of operations that ended, and so many entities. `hierarchy
// verify` forgets nothing.
const (
	auditOperations = arbiter.RecentOperations * 5 / 4
	auditEntities   = 512
	// auditTold is how many violations one run of an observer tells as events. One
	// fault may be followed by others that it caused; all are counted.
	auditTold = 1000
)

// live audits the journal while the observer reads it: the same auditor as that of
// `verify`, without the second computation of every step and without the views. It
// is for one goroutine, but for violations.
type live struct {
	auditor *audit.Auditor
	m       *metrics.Observer
	found   chan audit.Violation // to be told
	told    int
	count   uint64 // violations
	stopped string // why the audit has ended
}

func newLive(b *bus.Bus, m *metrics.Observer) *live {
	l := &live{m: m, found: make(chan audit.Violation, auditTold)}
	n := b.Layout().Partitions
	l.auditor = audit.New(audit.Options{
		PartitionOf:   func(target string) int { return bus.PartitionOf(target, n) },
		Partitions:    n,
		RecordsMaxAge: b.Layout().RecordsMaxAge,
		Bounds:        audit.Bounds{Operations: auditOperations, Entities: auditEntities},
		MaxViolations: 1,
		OnViolation:   l.violated,
	})
	// A series that begins with its first violation has not increased.
	for _, i := range audit.Invariants() {
		if group, _, _ := strings.Cut(i.Name, "."); group != "views" && group != "clients" { // which it does not see
			m.Violations.WithLabelValues(i.Name)
		}
	}
	return l
}

// begin says where the journal begins. One that was compacted cannot be audited:
// what its first steps follow from is gone. [Totals] and the health tell it.
func (l *live) begin(first uint64) {
	if first > 1 {
		l.stopped = fmt.Sprintf("the journal begins at %d", first)
	}
}

// entry audits one entry; s is nil if it cannot be read.
func (l *live) entry(e *bus.Entry, s *arbiter.Step) {
	switch {
	case l.stopped != "":
	case s == nil && newer(e.Data):
		l.stopped = fmt.Sprintf("entry %d was written by another release", e.Seq)
	case s == nil, s.Partition != e.Partition:
		l.auditor.Raw(e.Seq, e.Partition, e.Data)
	default:
		l.auditor.Step(e.Seq, s)
	}
}

// newer reports whether an entry is of a schema that this release does not know.
func newer(data []byte) bool {
	var s struct {
		Schema string `json:"schema"`
	}
	return json.Unmarshal(data, &s) == nil && s.Schema != "" && s.Schema != arbiter.StepSchema
}

// violated counts a violation and hands it to whoever tells it.
func (l *live) violated(v audit.Violation) {
	l.count++
	l.m.Violations.WithLabelValues(v.Invariant).Inc()
	if l.told < auditTold {
		l.told++
		l.found <- v // it has room for all of them
	}
}

// violationEvent is what the world is told of a violation. Its id is a function of
// what was found, so that every observer, and one that reads the journal anew,
// tells the same event.
func violationEvent(v *audit.Violation, process string, at time.Time) (subject string, e *op.Event) {
	partition := max(v.Partition, 0)
	e = &op.Event{
		Type: op.EventType, Name: op.EventViolated, ID: fmt.Sprintf("violation-%s-%d-%d-%s", v.Invariant, v.Seq, partition, v.OpID),
		OpID: v.OpID, At: at.UTC(), Process: process, Seq: v.Seq, Partition: &partition, Invariant: v.Invariant, Text: v.Text,
	}
	return bus.EventSubject(op.EventViolated, strconv.Itoa(partition)), e
}

// tellViolations tells what the live audit finds, until ctx ends. What cannot be
// told, maybe because the observer has no right to, is in the log and in the metric.
func (o *Observer) tellViolations(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-o.live.found:
			o.log.Error("an invariant is broken", "invariant", v.Invariant, "seq", v.Seq, "partition", v.Partition,
				"step", v.Step, "op_id", v.OpID, "what", v.Text)
			subject, e := violationEvent(&v, o.cfg.Name, time.Now())
			body, err := op.Marshal(e)
			if err == nil {
				limited, cancel := context.WithTimeout(ctx, probeTimeout)
				_, err = o.cfg.Bus.Publish(limited, subject, body, e.ID, nil)
				cancel()
			}
			if err != nil && ctx.Err() == nil {
				o.log.Error("the violation was not told", "seq", v.Seq, "error", err)
			}
		}
	}
}
