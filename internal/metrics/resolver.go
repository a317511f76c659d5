package metrics

import "github.com/prometheus/client_golang/prometheus"

// Resolver is what a resolver counts: of its own work, and of the operations in
// the partitions that it serves. Every field is safe for concurrent use.
type Resolver struct {
	Steps           prometheus.Counter
	StepInputs      prometheus.Histogram
	StepEffects     prometheus.Histogram
	StepBytes       prometheus.Histogram
	CommitSeconds   prometheus.Histogram
	EmitSeconds     prometheus.Histogram
	TakeoverSeconds prometheus.Histogram
	Takeovers       prometheus.Counter
	StaleCommits    prometheus.Counter
	UnknownOutcomes prometheus.Counter
	Outputs         *prometheus.CounterVec // kind (entity, record, event, work, follow_up, dead, control)
	Results         *prometheus.CounterVec // outcome (accepted, refused)
	Heartbeats      *prometheus.CounterVec // outcome (accepted, refused)
	KinLookups      *prometheus.CounterVec // outcome (found, unknown)
	Forecasts       *prometheus.CounterVec // outcome (answered, refused, full)
	Snapshots       prometheus.Counter
	Partitions      prometheus.Gauge
	Members         prometheus.Gauge
	PolicyRefused   prometheus.Counter
	Pause           prometheus.Gauge

	// Partition gauges; delete the values when a partition is given up.
	OpenOperations *prometheus.GaugeVec // partition
	OldestPending  *prometheus.GaugeVec // partition

	// What a step meant for operations. The sum over the resolvers is the whole.
	GraceSaves           prometheus.Counter
	ExecutingProtections prometheus.Counter
	Preemptions          *prometheus.CounterVec   // priority
	Cancels              *prometheus.CounterVec   // reason (cancelled, cancelled_with_parent)
	Coalesced            prometheus.Counter       //
	Superseded           prometheus.Counter       //
	Lapses               *prometheus.CounterVec   // kind (claimed, unclaimed)
	PromotionSeconds     *prometheus.HistogramVec // priority
	Losses               *prometheus.CounterVec   // priority, reason
}

func newResolver(b builder) *Resolver {
	return &Resolver{
		Steps:           b.counter("ops_resolver_steps_total"),
		StepInputs:      b.histogram("ops_resolver_step_inputs"),
		StepEffects:     b.histogram("ops_resolver_step_effects"),
		StepBytes:       b.histogram("ops_resolver_step_bytes"),
		CommitSeconds:   b.histogram("ops_resolver_commit_seconds"),
		EmitSeconds:     b.histogram("ops_resolver_emit_seconds"),
		TakeoverSeconds: b.histogram("ops_resolver_takeover_seconds"),
		Takeovers:       b.counter("ops_resolver_takeovers_total"),
		StaleCommits:    b.counter("ops_resolver_stale_commits_total"),
		UnknownOutcomes: b.counter("ops_resolver_unknown_outcomes_total"),
		Outputs:         b.counters("ops_resolver_outputs_total"),
		Results:         b.counters("ops_resolver_results_total"),
		Heartbeats:      b.counters("ops_resolver_heartbeats_total"),
		KinLookups:      b.counters("ops_resolver_kin_lookups_total"),
		Forecasts:       b.counters("ops_resolver_forecasts_total"),
		Snapshots:       b.counter("ops_resolver_snapshots_total"),
		Partitions:      b.gauge("ops_resolver_partitions"),
		Members:         b.gauge("ops_resolver_members"),
		Pause:           b.gauge("ops_resolver_pause_seconds"),
		PolicyRefused:   b.counter("ops_resolver_policies_refused_total"),

		OpenOperations: b.gauges("ops_resolver_open_operations"),
		OldestPending:  b.gauges("ops_resolver_oldest_pending_seconds"),

		GraceSaves:           b.counter("ops_resolver_grace_period_saves_total"),
		ExecutingProtections: b.counter("ops_resolver_executing_protections_total"),
		Preemptions:          b.counters("ops_resolver_preemptions_total"),
		Cancels:              b.counters("ops_resolver_cancels_total"),
		Coalesced:            b.counter("ops_resolver_coalesced_total"),
		Superseded:           b.counter("ops_resolver_superseded_total"),
		Lapses:               b.counters("ops_resolver_lapses_total"),
		PromotionSeconds:     b.histograms("ops_resolver_promotion_seconds"),
		Losses:               b.counters("ops_resolver_losses_total"),
	}
}
