package metrics

import "github.com/prometheus/client_golang/prometheus"

// Submitter is what a submitter counts. Every field is safe for concurrent use.
type Submitter struct {
	Requests       *prometheus.CounterVec // transport (nats, http, ndjson, program), outcome (accepted, refused, full, unknown)
	Operations     *prometheus.CounterVec // type
	Refused        *prometheus.CounterVec // code, OPS-1xxx
	InFlight       prometheus.Gauge
	Waiting        prometheus.Gauge
	PublishSeconds prometheus.Histogram
	WaitSeconds    prometheus.Histogram
}

func newSubmitter(b builder) *Submitter {
	return &Submitter{
		Requests:       b.counters("ops_submitter_requests_total"),
		Operations:     b.counters("ops_submitter_operations_total"),
		Refused:        b.counters("ops_submitter_refused_total"),
		InFlight:       b.gauge("ops_submitter_in_flight_requests"),
		Waiting:        b.gauge("ops_submitter_waiting_requests"),
		PublishSeconds: b.histogram("ops_submitter_publish_seconds"),
		WaitSeconds:    b.histogram("ops_submitter_wait_seconds"),
	}
}

// Executor is what an executor counts. Every field is safe for concurrent use.
type Executor struct {
	Attempts       *prometheus.CounterVec // type, outcome (succeeded, failed, refused, revoked, unreported)
	Dropped        *prometheus.CounterVec // why (unreadable, lease_over, no_handler, shutdown)
	Panics         *prometheus.CounterVec // type
	ReportRetries  prometheus.Counter
	Heartbeats     *prometheus.CounterVec // outcome (accepted, refused, unanswered)
	Abandoned      prometheus.Gauge
	Running        prometheus.Gauge
	Capacity       prometheus.Gauge
	HandlerSeconds *prometheus.HistogramVec // type
	ReportSeconds  prometheus.Histogram
}

func newExecutor(b builder) *Executor {
	return &Executor{
		Attempts:       b.counters("ops_executor_attempts_total"),
		Dropped:        b.counters("ops_executor_dropped_total"),
		Panics:         b.counters("ops_executor_panics_total"),
		ReportRetries:  b.counter("ops_executor_report_retries_total"),
		Heartbeats:     b.counters("ops_executor_heartbeats_total"),
		Abandoned:      b.gauge("ops_executor_abandoned_handlers"),
		Running:        b.gauge("ops_executor_running_attempts"),
		Capacity:       b.gauge("ops_executor_capacity_attempts"),
		HandlerSeconds: b.histograms("ops_executor_handler_seconds"),
		ReportSeconds:  b.histogram("ops_executor_report_seconds"),
	}
}

// Observer is what an observer reads out of the journal, for the system as a
// whole. Every field is safe for concurrent use.
type Observer struct {
	Submitted, Terminal, Completed, Failed, Retried, Lapsed *prometheus.CounterVec
	Repeated, ConflictsDetected, ConflictsResolved          prometheus.Counter
	ResolutionSeconds, DecisionLatency, Contenders          prometheus.Histogram
	Decisions                                               *prometheus.CounterVec
	Inherited                                               prometheus.Counter
	ExecutionSeconds, WaitSeconds, EndToEndSeconds          *prometheus.HistogramVec
	Throughput                                              prometheus.Gauge
	GraceSaves, ExecutingProtections                        prometheus.Counter
	Open                                                    *prometheus.GaugeVec
	StagedTargets, LargestStagingArea                       prometheus.Gauge
	OldestPending, OldestExecuting                          prometheus.Gauge
	Waiting, OldestWaiting                                  *prometheus.GaugeVec
	EntityChanges, Versions, Invalid                        *prometheus.CounterVec
	StaleResults, CancelsRefused, Takeovers                 prometheus.Counter
	Preempted, Losses                                       *prometheus.CounterVec
	Coalesced                                               prometheus.Counter
	PolicyRevision                                          prometheus.Gauge
	Steps, UnreadableSteps                                  prometheus.Counter
	JournalSeq, Lag                                         prometheus.Gauge
	StreamMessages, StreamBytes                             *prometheus.GaugeVec
	WorkPending, WorkUnacked, Resolvers, DeadLetters        prometheus.Gauge
	Health                                                  *prometheus.GaugeVec
	Violations                                              *prometheus.CounterVec
}

func newObserver(b builder) *Observer {
	return &Observer{
		Submitted:            b.counters("ops_operations_submitted_total"),
		Terminal:             b.counters("ops_operations_terminal_total"),
		Completed:            b.counters("ops_operations_completed_total"),
		Failed:               b.counters("ops_operations_failed_total"),
		Retried:              b.counters("ops_operations_retried_total"),
		Lapsed:               b.counters("ops_operations_lapsed_total"),
		Repeated:             b.counter("ops_operations_repeated_total"),
		ConflictsDetected:    b.counter("ops_conflicts_detected_total"),
		ConflictsResolved:    b.counter("ops_conflicts_resolved_total"),
		ResolutionSeconds:    b.histogram("ops_resolution_seconds"),
		DecisionLatency:      b.histogram("ops_decision_latency_seconds"),
		Contenders:           b.histogram("ops_contenders_per_decision"),
		Decisions:            b.counters("ops_decisions_total"),
		Inherited:            b.counter("ops_priority_inherited_total"),
		ExecutionSeconds:     b.histograms("ops_execution_seconds"),
		WaitSeconds:          b.histograms("ops_wait_seconds"),
		EndToEndSeconds:      b.histograms("ops_end_to_end_seconds"),
		Throughput:           b.gauge("ops_throughput_operations_per_second"),
		GraceSaves:           b.counter("ops_grace_period_saves_total"),
		ExecutingProtections: b.counter("ops_executing_protections_total"),
		Open:                 b.gauges("ops_open_operations"),
		StagedTargets:        b.gauge("ops_staged_targets"),
		LargestStagingArea:   b.gauge("ops_largest_staging_area_operations"),
		OldestPending:        b.gauge("ops_oldest_pending_seconds"),
		OldestExecuting:      b.gauge("ops_oldest_executing_seconds"),
		Waiting:              b.gauges("ops_waiting_operations"),
		OldestWaiting:        b.gauges("ops_oldest_waiting_seconds"),
		EntityChanges:        b.counters("ops_entity_changes_total"),
		Versions:             b.counters("ops_versions_created_total"),
		Invalid:              b.counters("ops_invalid_submissions_total"),
		StaleResults:         b.counter("ops_stale_results_refused_total"),
		CancelsRefused:       b.counter("ops_cancels_refused_total"),
		Takeovers:            b.counter("ops_takeovers_total"),
		Preempted:            b.counters("ops_operations_preempted_total"),
		Losses:               b.counters("ops_losses_total"),
		Coalesced:            b.counter("ops_operations_coalesced_total"),
		PolicyRevision:       b.gauge("ops_policy_revision"),
		Steps:                b.counter("ops_observer_steps_total"),
		UnreadableSteps:      b.counter("ops_observer_unreadable_steps_total"),
		JournalSeq:           b.gauge("ops_observer_journal_seq"),
		Lag:                  b.gauge("ops_observer_lag_seconds"),
		StreamMessages:       b.gauges("ops_stream_messages"),
		StreamBytes:          b.gauges("ops_stream_bytes"),
		WorkPending:          b.gauge("ops_work_pending_messages"),
		WorkUnacked:          b.gauge("ops_work_unacked_messages"),
		Resolvers:            b.gauge("ops_resolvers"),
		DeadLetters:          b.gauge("ops_dead_letters"),
		Health:               b.gauges("ops_health_status"),
		Violations:           b.counters("ops_invariant_violations_total"),
	}
}
