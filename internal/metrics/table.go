package metrics

import "slices"

// Kind is what a metric does over time.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Role says which process has a metric.
type Role string

// The roles. Process metrics are those of every process.
const (
	RoleProcess   Role = "process"
	RoleResolver  Role = "resolver"
	RoleExecutor  Role = "executor"
	RoleSubmitter Role = "submitter"
	RoleObserver  Role = "observer"
)

// Metric is one row of the table.
type Metric struct {
	Name    string
	Role    Role
	Kind    Kind
	Help    string
	Labels  []string
	Buckets []float64 // of a histogram
	// Original is the name of the value in the original's HierarchyMetrics that
	// this metric stands for, or "".
	Original string
}

// Buckets of the histograms. Decisions take milliseconds, executions anything;
// counts go up in powers of two.
var (
	fast   = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}
	slow   = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120, 600}
	counts = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}
	sizes  = []float64{256, 1024, 4096, 16384, 65536, 262144, 524288, 1048576}
)

// Labels that several rows share.
const (
	labelType      = "type"
	labelPriority  = "priority"
	labelPartition = "partition"
)

// row makes a metric without buckets.
func row(role Role, kind Kind, name, help string, labels ...string) Metric {
	return Metric{Name: name, Role: role, Kind: kind, Help: help, Labels: labels}
}

// hist makes a histogram.
func hist(role Role, name, help string, buckets []float64, labels ...string) Metric {
	return Metric{Name: name, Role: role, Kind: Histogram, Help: help, Labels: labels, Buckets: buckets}
}

// as notes which value of the original's HierarchyMetrics m stands for.
func (m Metric) as(original string) Metric {
	m.Original = original
	return m
}

// Table returns every metric that Hierarchy has of its own, in the order in which
// the roles handle an operation. The slice is the caller's.
func Table() []Metric {
	return slices.Concat(processTable, submitterTable, resolverTable, executorTable, observerTable)
}

var processTable = []Metric{
	row(RoleProcess, Gauge, "ops_build_info", "One, with the version of the program as labels.", "version", "go_version"),
	row(RoleProcess, Gauge, "ops_process_memory_bytes", "Memory that the process holds from the operating system for its heap, stacks and runtime.").as("memory_usage_mb"),
	row(RoleProcess, Gauge, "ops_process_cpu_ratio", "Processor time used per second since the last scrape; 1 is one core.").as("cpu_usage_percent"),
}

var submitterTable = []Metric{
	row(RoleSubmitter, Counter, "ops_submitter_requests_total", "Requests by the way they came and how they ended.", "transport", "outcome"),
	row(RoleSubmitter, Counter, "ops_submitter_operations_total", "Operations written durably into the intake.", labelType),
	row(RoleSubmitter, Counter, "ops_submitter_refused_total", "Requests refused before the log, by error code.", "code"),
	row(RoleSubmitter, Gauge, "ops_submitter_in_flight_requests", "Requests being handled now."),
	row(RoleSubmitter, Gauge, "ops_submitter_waiting_requests", "Requests that wait for their operation to end."),
	hist(RoleSubmitter, "ops_submitter_publish_seconds", "Time until the intake acknowledged a message durably.", fast),
	hist(RoleSubmitter, "ops_submitter_wait_seconds", "Time that a waiting request waited for its operation to end.", slow),
}

var resolverTable = []Metric{
	row(RoleResolver, Counter, "ops_resolver_steps_total", "Journal steps committed."),
	hist(RoleResolver, "ops_resolver_step_inputs", "Inputs of a committed step.", counts),
	hist(RoleResolver, "ops_resolver_step_effects", "Effects of a committed step.", counts),
	hist(RoleResolver, "ops_resolver_step_bytes", "Size of a committed step.", sizes),
	hist(RoleResolver, "ops_resolver_commit_seconds", "Time of the fenced publish of a step.", fast),
	hist(RoleResolver, "ops_resolver_emit_seconds", "Time until the outputs of a step were all acknowledged.", fast),
	hist(RoleResolver, "ops_resolver_takeover_seconds", "Time from trying for a partition to serving it.", slow),
	row(RoleResolver, Counter, "ops_resolver_takeovers_total", "Partitions taken over."),
	row(RoleResolver, Counter, "ops_resolver_stale_commits_total", "Steps refused by the fence because another resolver owns the partition."),
	row(RoleResolver, Counter, "ops_resolver_unknown_outcomes_total", "Steps whose outcome could not be settled, so that the partition was loaded again."),
	row(RoleResolver, Counter, "ops_resolver_outputs_total", "Messages published as outputs of committed steps.", "kind"),
	row(RoleResolver, Counter, "ops_resolver_results_total", "Results of attempts received from executors, by whether they counted.", "outcome"),
	row(RoleResolver, Counter, "ops_resolver_heartbeats_total", "Heartbeats of attempts received from executors, by whether they counted.", "outcome"),
	row(RoleResolver, Counter, "ops_resolver_kin_lookups_total", "Ancestors looked up in other partitions.", "outcome"),
	row(RoleResolver, Counter, "ops_resolver_forecasts_total", "Dry runs asked for, by how they were answered.", "outcome"),
	row(RoleResolver, Counter, "ops_resolver_snapshots_total", "Snapshots of a partition saved."),
	row(RoleResolver, Gauge, "ops_resolver_partitions", "Partitions that this resolver serves."),
	row(RoleResolver, Gauge, "ops_resolver_open_operations", "Operations without a terminal record, by partition served here.", labelPartition),
	row(RoleResolver, Gauge, "ops_resolver_members", "Resolvers alive as this one sees them."),
	row(RoleResolver, Gauge, "ops_resolver_pause_seconds", "How long a report of a crowded target waits at present, so that the others have processor time."),
	row(RoleResolver, Counter, "ops_resolver_policies_refused_total", "Revisions of the policy that could not be put into force, so that the one before stays."),
	row(RoleResolver, Gauge, "ops_resolver_oldest_pending_seconds", "Age of the oldest pending operation, by partition served here.", labelPartition),
	row(RoleResolver, Counter, "ops_resolver_grace_period_saves_total", "Times that an executing operation stayed because its grace period had not ended: each cancel, and once an attempt a stronger contender."),
	row(RoleResolver, Counter, "ops_resolver_executing_protections_total", "Times that an executing operation could not be preempted by a stronger contender, counted once an attempt."),
	row(RoleResolver, Counter, "ops_resolver_preemptions_total", "Executing operations that had to yield to a stronger one.", labelPriority),
	row(RoleResolver, Counter, "ops_resolver_cancels_total", "Operations cancelled, by whether they or an ancestor were asked for.", "reason"),
	row(RoleResolver, Counter, "ops_resolver_coalesced_total", "Operations that left the staging area to share the outcome of an identical winner."),
	row(RoleResolver, Counter, "ops_resolver_superseded_total", "Pending operations that a newer one of their submitter replaced."),
	row(RoleResolver, Counter, "ops_resolver_lapses_total", "Attempts whose lease ran out, by whether an executor had claimed them.", "kind"),
	hist(RoleResolver, "ops_resolver_promotion_seconds", "Time from acceptance to the first grant.", slow, labelPriority),
	row(RoleResolver, Counter, "ops_resolver_losses_total", "Times that an operation lost a decision, or its place in the queue, by why; of those that stay queued a decision counts the best 16.", labelPriority, "reason"),
}

var executorTable = []Metric{
	row(RoleExecutor, Counter, "ops_executor_attempts_total", "Attempts handled here, by how they ended.", labelType, "outcome"),
	row(RoleExecutor, Counter, "ops_executor_dropped_total", "Work dropped without running its handler, by why.", "why"),
	row(RoleExecutor, Counter, "ops_executor_panics_total", "Handlers that panicked.", labelType),
	row(RoleExecutor, Counter, "ops_executor_report_retries_total", "Reports repeated because no answer came."),
	row(RoleExecutor, Counter, "ops_executor_heartbeats_total", "Heartbeats of attempts, by what the owner said.", "outcome"),
	row(RoleExecutor, Gauge, "ops_executor_abandoned_handlers", "Handlers that did not return when their attempt was over, and no longer count as running."),
	row(RoleExecutor, Gauge, "ops_executor_running_attempts", "Attempts running now."),
	row(RoleExecutor, Gauge, "ops_executor_capacity_attempts", "Attempts that may run at once."),
	hist(RoleExecutor, "ops_executor_handler_seconds", "Time inside the handler.", slow, labelType),
	hist(RoleExecutor, "ops_executor_report_seconds", "Time from the first report of a result to the answer after its commit.", fast),
}
