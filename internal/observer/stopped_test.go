package observer

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// bare is an observer without a server.
func bare(t *testing.T) *Observer {
	t.Helper()
	o, err := New(Config{Bus: &bus.Bus{}, Name: "bare"})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestLiveAuditStops: what the live audit cannot follow ends it, and that is seen in
// the counters and in the health, at the start and later. What merely cannot be read
// is a violation.
func TestLiveAuditStops(t *testing.T) {
	broken, newer := `{`, `{"schema":"ops.v9.step"}`
	for name, c := range map[string]struct {
		first      uint64
		entries    []string
		want       string // why it has stopped
		violations uint64
	}{
		"nothing yet":                    {first: 1},
		"a new journal":                  {},
		"a compacted one":                {first: 5, want: "the journal begins at 5"},
		"a compacted one, and a fault":   {first: 5, entries: []string{broken}, want: "the journal begins at 5"},
		"not JSON":                       {first: 1, entries: []string{broken}, violations: 1},
		"another release":                {first: 1, entries: []string{newer}, want: "entry 1 was written by another release"},
		"a fault before another release": {first: 1, entries: []string{broken, newer}, violations: 1, want: "entry 2 was written by another release"},
		"a fault after another release":  {first: 1, entries: []string{newer, broken}, want: "entry 1 was written by another release"},
	} {
		o := bare(t)
		o.live.begin(c.first)
		o.audited()
		for i, data := range c.entries {
			o.entry(&bus.Entry{Seq: uint64(i + 1), Data: []byte(data), Time: time.Unix(1, 0)})
		}
		if s := o.Stats(); s.Unaudited != c.want || s.Violations != c.violations {
			t.Errorf("%s: not audited because %q, %d violations", name, s.Unaudited, s.Violations)
		}
		reasons := strings.Join(o.Health().Reasons, "\n")
		if strings.Contains(reasons, "is not audited") != (c.want != "") || !strings.Contains(reasons, c.want) {
			t.Errorf("%s: health says %s", name, reasons)
		}
	}
}

// TestLiveAuditIsNotHeldUp: violations that nobody comes to tell are counted, and do
// not keep the observer from the journal.
func TestLiveAuditIsNotHeldUp(t *testing.T) {
	l := bare(t).live
	for i := range auditTold + 1 {
		l.violated(audit.Violation{Invariant: audit.LogOwner, Seq: uint64(i + 1)})
	}
	if n := testutil.ToFloat64(l.m.Violations.WithLabelValues(audit.LogOwner)); l.count != auditTold+1 || n != auditTold+1 || len(l.found) != auditTold {
		t.Errorf("%d counted, %v in the metric, %d to be told", l.count, n, len(l.found))
	}
}
