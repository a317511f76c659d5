package observer

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// well are the vitals of a system without a complaint.
func well() vitals {
	return vitals{
		now: ms(0), caught: true,
		stats: Stats{JournalSeq: 10, JournalAt: ms(-100), Balanced: true, Pending: 3, Executing: 2, OldestPending: 1.5, AverageResolution: .01, Totals: Totals{ProcessedEvents: 40}},
		probe: probe{at: ms(-10), good: ms(-10), resolvers: 2, registry: true, entities: 5, entityBytes: 900, journalLast: 10, dead: 4},
	}
}

func TestHealthy(t *testing.T) {
	v := well()
	got, err := json.Marshal(judge(&v))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"ops.v1.health","status":"healthy","at":"2026-11-21T19:01:33Z","checks":{` +
		`"event_bus":{"status":"healthy","queue_size":0,"processed_events":40,"lag_seconds":0,"resolvers":2},` +
		`"ecs_registry":{"status":"healthy","entity_count":5,"memory_usage":900},` +
		`"operations":{"status":"healthy","pending_count":3,"executing_count":2,"average_resolution_time":0.01,"oldest_pending_seconds":1.5,"dead_letters":4}}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestHealthIsComputed(t *testing.T) {
	gone := errors.New("nats: no responders")
	for name, c := range map[string]struct {
		ill                 func(*vitals)
		bus, registry, work HealthStatus
		why                 string
	}{
		"never asked":     {func(v *vitals) { v.probe = probe{good: ms(-10)} }, Degraded, Healthy, Healthy, "not been asked"},
		"one lost answer": {func(v *vitals) { v.probe.err = gone }, Degraded, Healthy, Healthy, "last question: nats: no responders"},
		"server gone":     {func(v *vitals) { v.probe.err, v.probe.good = gone, ms(-60_000) }, Broken, Healthy, Healthy, "does not answer"},
		"no resolver":     {func(v *vitals) { v.probe.resolvers = 0 }, Broken, Healthy, Healthy, "no resolver is alive"},
		"starting":        {func(v *vitals) { v.caught = false }, Degraded, Healthy, Healthy, "still reading"},
		"lagging":         {func(v *vitals) { v.stats.JournalAt, v.probe.journalLast = ms(-7000), 11 }, Degraded, Healthy, Healthy, "7s behind"},
		"idle":            {func(v *vitals) { v.stats.JournalAt = ms(-7_000_000) }, Healthy, Healthy, Healthy, ""},
		"full":            {func(v *vitals) { v.probe.intakeFull = .95 }, Degraded, Healthy, Healthy, "95 % full"},
		"stalled":         {func(v *vitals) { v.probe.stalled = []int{3} }, Degraded, Healthy, Healthy, "partition 3"},
		"unreadable":      {func(v *vitals) { v.stats.Unreadable = 1 }, Degraded, Healthy, Healthy, "schema"},
		"a violation":     {func(v *vitals) { v.stats.Violations = 2 }, Degraded, Healthy, Healthy, "breaks 2 invariants"},
		"unaudited":       {func(v *vitals) { v.stats.Unaudited = "the journal begins at 5" }, Degraded, Healthy, Healthy, "begins at 5"},
		"no entities":     {func(v *vitals) { v.probe.registry = false }, Healthy, Degraded, Healthy, "entities"},
		"backlog":         {func(v *vitals) { v.stats.Pending = 10_001 }, Healthy, Healthy, Degraded, "10001 operations are pending"},
		"stuck":           {func(v *vitals) { v.stats.Overdue = 16 }, Healthy, Healthy, Degraded, "ended 16 s ago"},
		"long, and alive": {func(v *vitals) { v.stats.OldestExecuting = 3600 }, Healthy, Healthy, Healthy, ""},
		"unbalanced":      {func(v *vitals) { v.stats.Balanced = false }, Healthy, Healthy, Degraded, "not the sum"},
		"stalled because we lag": {func(v *vitals) {
			v.probe.stalled, v.stats.JournalAt, v.probe.journalLast = []int{3}, ms(-7000), 11
		}, Degraded, Healthy, Healthy, "behind"},
	} {
		v := well()
		c.ill(&v)
		h := judge(&v)
		if h.Checks.EventBus.Status != c.bus || h.Checks.Registry.Status != c.registry || h.Checks.Operations.Status != c.work {
			t.Errorf("%s: %+v", name, h.Checks)
		}
		if want := worse(worse(c.bus, c.registry), c.work); h.Status != want {
			t.Errorf("%s: status %s, want %s", name, h.Status, want)
		}
		reasons := strings.Join(h.Reasons, "\n")
		if !strings.Contains(reasons, c.why) || (c.why == "") != (len(h.Reasons) == 0) || len(h.Reasons) > 1 {
			t.Errorf("%s: reasons %q, want one with %q", name, h.Reasons, c.why)
		}
	}
}
