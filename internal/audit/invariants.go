package audit

// Group is a family of invariants.
type Group string

// The groups.
const (
	GroupLog        Group = "log"
	GroupLife       Group = "life"
	GroupResolution Group = "resolution"
	GroupEffects    Group = "effects"
	GroupCauses     Group = "causes"
	GroupViews      Group = "views"
	GroupClients    Group = "clients"
)

// The invariants. A name is stable: it is printed, counted and alerted on.
const (
	LogUndecodable = "log.undecodable"
	LogSchema      = "log.schema"
	LogSequence    = "log.sequence"
	LogPartition   = "log.partition"
	LogMisplaced   = "log.misplaced"
	LogChain       = "log.chain"
	LogEpoch       = "log.epoch"
	LogTakeover    = "log.takeover"
	LogOwner       = "log.owner"
	LogTime        = "log.time"
	LogCursor      = "log.cursor"
	LogOrder       = "log.order"
	LogStepID      = "log.step_id"
	LogShape       = "log.shape"
	LogUnanswered  = "log.unanswered"
	LogSkipped     = "log.skipped"
	LogInvented    = "log.invented"

	LifeUnknownOperation = "life.unknown_operation"
	LifeUnasked          = "life.unasked"
	LifeAcceptedTwice    = "life.accepted_twice"
	LifeRepeatedUnknown  = "life.repeated_unknown"
	LifeTarget           = "life.target"
	LifeTransition       = "life.transition"
	LifeFrom             = "life.from"
	LifeTerminalTwice    = "life.terminal_twice"
	LifeAfterTerminal    = "life.after_terminal"
	LifeAttemptNumber    = "life.attempt_number"
	LifeAttempts         = "life.attempts"
	LifeRetryCount       = "life.retry_count"
	LifeRetryBound       = "life.retry_bound"
	LifeBackoff          = "life.backoff"
	LifeJitter           = "life.jitter"
	LifeReason           = "life.reason"
	LifeLease            = "life.lease"
	LifeLapseEarly       = "life.lapse_early"
	LifeGrace            = "life.grace"
	LifeExpiredEarly     = "life.expired_early"
	LifeGrantedExpired   = "life.granted_expired"
	LifeOverdue          = "life.overdue"
	LifeUndone           = "life.undone"
	LifeBackoffNumber    = "life.backoff_number"
	LifeError            = "life.error"
	LifeRetryAfter       = "life.retry_after"
	LifeAdmitted         = "life.admitted"
	LifeUnknownType      = "life.unknown_type"
	LifePaused           = "life.paused"
	LifeNotAllowed       = "life.not_allowed"
	LifeOverloaded       = "life.overloaded"
	LifeSuperseded       = "life.superseded"
	LifeExtended         = "life.extended"
	LifeClaimed          = "life.claimed"
	LifePreemptions      = "life.preemptions"
	LifeProtected        = "life.protected"
	LifeCancelLost       = "life.cancel_lost"
	LifeShared           = "life.shared"
	LifeRiders           = "life.riders"
	LifeTwoPartitions    = "life.two_partitions"
	LifeOpen             = "life.open"
	LifeAccounting       = "life.accounting"

	ResolutionDecisionID     = "resolution.decision_id"
	ResolutionTime           = "resolution.time"
	ResolutionPolicy         = "resolution.policy"
	ResolutionBusy           = "resolution.busy"
	ResolutionWindow         = "resolution.window"
	ResolutionNotStaged      = "resolution.not_staged"
	ResolutionTotal          = "resolution.total"
	ResolutionUnlisted       = "resolution.unlisted"
	ResolutionContender      = "resolution.contender"
	ResolutionEffective      = "resolution.effective"
	ResolutionUnaskedParent  = "resolution.unasked_parent"
	ResolutionParentMissed   = "resolution.parent_missed"
	ResolutionKin            = "resolution.kin"
	ResolutionOrder          = "resolution.order"
	ResolutionWinner         = "resolution.winner_not_best"
	ResolutionRule           = "resolution.rule"
	ResolutionVerdict        = "resolution.verdict"
	ResolutionReason         = "resolution.reason"
	ResolutionNotCarriedOut  = "resolution.not_carried_out"
	ResolutionNoDecision     = "resolution.no_decision"
	ResolutionExecutingLost  = "resolution.executing_rejected"
	ResolutionUndecided      = "resolution.undecided"
	ResolutionStagingBound   = "resolution.staging_bound"
	ResolutionExecutingBound = "resolution.executing_bound"
	ResolutionShed           = "resolution.shed"
	ResolutionPriority       = "resolution.priority"
	ResolutionBoost          = "resolution.boost"
	ResolutionPaused         = "resolution.paused"
	ResolutionCoalesced      = "resolution.coalesced"
	ResolutionPreemption     = "resolution.preemption"
	ResolutionNotPreempted   = "resolution.not_preempted"
	ResolutionReplayDiffers  = "resolution.replay_differs"
	EffectsOverlap           = "effects.overlap"
	EffectsNoResult          = "effects.no_result"
	EffectsSuperseded        = "effects.superseded"
	EffectsRefusedCurrent    = "effects.refused_current"
	EffectsUndecodable       = "effects.undecodable"
	EffectsBase              = "effects.base"
	EffectsStale             = "effects.stale"
	EffectsFold              = "effects.fold"
	EffectsRevision          = "effects.revision"
	EffectsVersion           = "effects.version"
	EffectsBorrow            = "effects.borrow"
	CausesType               = "causes.type"
	CausesMissing            = "causes.missing"
	CausesFollowUp           = "causes.follow_up"
	CausesFollowUpLost       = "causes.follow_up_lost"
	CausesCancel             = "causes.cancel"
	CausesCascade            = "causes.cascade"
	CausesCascadeLost        = "causes.cascade_lost"
	CausesAncestor           = "causes.ancestor"
	CausesCascadeTold        = "causes.cascade_told"
	ViewsHead                = "views.head"
	ViewsRecord              = "views.record"
	ViewsEvent               = "views.event"
	ViewsEventLost           = "views.event_lost"
	ClientsLost              = "clients.lost"
	ClientsRefused           = "clients.refused"
	ClientsResult            = "clients.result"
)

// Invariant documents one invariant.
type Invariant struct {
	Name string
	Text string // what must hold
}

var invariants = []Invariant{
	{LogUndecodable, "Every message of the journal is one JSON step without unknown fields."},
	{LogSchema, "Every step names the schema that this release knows."},
	{LogSequence, "The stream's sequence rises from step to step."},
	{LogPartition, "A step stands on the subject of the partition it names."},
	{LogMisplaced, "An operation is arbitrated by the partition that its target hashes to."},
	{LogChain, "The steps of a partition are numbered 1, 2, 3 … without a gap."},
	{LogEpoch, "The epoch never falls, and rises by one with a take-over and only then."},
	{LogTakeover, "A take-over step only marks the new epoch."},
	{LogOwner, "One epoch has one owner."},
	{LogTime, "The instant of a step is never before that of the step before it."},
	{LogCursor, "The cursor never falls, and a step consumes only what lies between the last cursor and its own."},
	{LogOrder, "A partition consumes its intake in the order of the log."},
	{LogStepID, "No two steps have the same id."},
	{LogShape, "An input and an effect say exactly one thing, and a cancel names one thing."},
	{LogUnanswered, "Every submission, result, heartbeat and cancel of one operation has an effect in the step that consumed it."},
	{LogSkipped, "What the intake holds and the cursor has passed was consumed by a step."},
	{LogInvented, "What a step has consumed is in the intake, as far as that is not trimmed."},

	{LifeUnknownOperation, "An effect names an operation that was accepted before it, a rejection on arrival as well."},
	{LifeUnasked, "An operation is accepted, repeated or refused because an input of the step asked for it."},
	{LifeAcceptedTwice, "An operation is accepted once."},
	{LifeRepeatedUnknown, "Only an operation that was submitted before can be repeated."},
	{LifeTarget, "Every effect of an operation names the operation's target."},
	{LifeTransition, "The statuses of an operation follow the transition table."},
	{LifeFrom, "A terminal record names the status that the operation had."},
	{LifeTerminalTwice, "An operation has one terminal record."},
	{LifeAfterTerminal, "Nothing follows the terminal record of an operation."},
	{LifeAttemptNumber, "The attempts of an operation are numbered 1, 2, 3 …"},
	{LifeAttempts, "An operation has at most 1 + max_retries attempts, and one more for each preemption and for each lapse of an attempt that nobody had claimed."},
	{LifeRetryCount, "Each retry counts one up, but not the one after the lapse of an attempt that nobody had claimed. A preemption costs none."},
	{LifeRetryBound, "An operation is not retried more often than max_retries."},
	{LifeBackoff, "A backoff is min(base · 2ⁿ, max) · U(0.8, 1.2), and ends that much later."},
	{LifeBackoffNumber, "A backoff is as long as the retries before it ask for, or the lapses before it where it costs no retry."},
	{LifeJitter, "The jitter of the backoffs is uniform."},
	{LifeReason, "The reason of a terminal record is the one that its history leads to."},
	{LifeError, "A rejection carries the last real error."},
	{LifeRetryAfter, "Who is rejected for want of room is told when to come again, by the policy, and nobody else is."},
	{LifeAdmitted, "What the policy or the load turns away is turned away on arrival, and what is pending of a type that is registered no longer as well."},
	{LifeUnknownType, "An operation is rejected for its type only if the policy does not have it."},
	{LifePaused, "An operation is turned away as paused only if the policy pauses its type or target."},
	{LifeNotAllowed, "An operation is refused for its priority only if that is out of range and the policy refuses it."},
	{LifeOverloaded, "An operation is turned away as overloaded only if more are open in the partition than operation_queue_size."},
	{LifeSuperseded, "Where the policy says so, a newer operation supersedes the pending ones of the same submitter, type and target, and no others."},
	{LifeLease, "The lease of an attempt, and each prolongation, is the policy's attempt timeout, and ends with the operation's deadline or maximum age."},
	{LifeExtended, "Only a heartbeat of the current attempt prolongs its lease."},
	{LifeClaimed, "A lapse says whether a heartbeat had claimed the attempt."},
	{LifeLapseEarly, "An attempt lapses no earlier than its lease ends."},
	{LifeGrace, "An executing operation is neither cancelled nor preempted within the grace period."},
	{LifeCancelLost, "A cancel is refused only where nothing is open, and takes effect at once, or when the grace of the attempt ends, if the attempt has not ended before."},
	{LifeProtected, "An executing operation is said to be protected if somebody stronger waits, by what protects it, until when that does, and once."},
	{LifePreemptions, "Preemptions are counted, and an operation suffers no more than max_preemptions."},
	{LifeExpiredEarly, "An operation expires no earlier than its deadline or maximum age."},
	{LifeGrantedExpired, "No attempt is granted after the deadline or maximum age."},
	{LifeOverdue, "A lease, a deadline or a maximum age that has passed takes effect in the first step after it."},
	{LifeUndone, "An operation that failed, lapsed or was preempted goes on in the same step."},
	{LifeShared, "An operation shares the success of the one that it was coalesced into, and of no other."},
	{LifeRiders, "When an operation ends, those that were coalesced into it share its failure or are staged again."},
	{LifeTwoPartitions, "An id is accepted in one partition. Nobody prevents that a client uses it for targets of two; both operations share one record."},
	{LifeOpen, "In a quiescent history every accepted operation has its terminal record."},
	{LifeAccounting, "Submitted = succeeded + rejected + cancelled + open."},

	{ResolutionDecisionID, "No two decisions have the same id."},
	{ResolutionTime, "A decision carries the instant of its step."},
	{ResolutionPolicy, "A decision names the policy revision in force."},
	{ResolutionBusy, "Nothing executes on the target when it is decided."},
	{ResolutionWindow, "A staging area is decided once its window has passed, and the decision tells that window."},
	{ResolutionNotStaged, "Every contender is staged on the target, once."},
	{ResolutionTotal, "A decision counts every staged operation that is not paused."},
	{ResolutionUnlisted, "A decision lists the winner, every loser whose status changes, and the first of those that stay."},
	{ResolutionContender, "A contender is listed with its own priority, the one it asked for, and its place."},
	{ResolutionPriority, "The priority of an operation is what it asked for, moved into the ranges of its type and its submitter."},
	{ResolutionEffective, "The effective priority is the maximum over the operation and its ancestors on record, with the path it came by, and what waiting adds."},
	{ResolutionBoost, "Waiting adds what the policy says: a step for each interval since the acceptance, up to a maximum."},
	{ResolutionUnaskedParent, "An ancestor counts as unknown only after it was looked for, up to the child's place in the log."},
	{ResolutionParentMissed, "An ancestor that was submitted before the child is found, whichever partition holds it."},
	{ResolutionKin, "What a partition is told about an ancestor is what was submitted."},
	{ResolutionOrder, "Contenders are listed best first."},
	{ResolutionWinner, "The winner is the best of those staged by effective priority, then place in the log."},
	{ResolutionPaused, "One that is paused neither wins nor contends."},
	{ResolutionRule, "The rule named is the one that decided."},
	{ResolutionVerdict, "The verdict on a loser is what the policy for its type says, else its on_conflict; who was preempted stays staged."},
	{ResolutionCoalesced, "Only what is identical to the winner is coalesced into it, and only where the policy says so."},
	{ResolutionReason, "A loser is told the winner and the right reason."},
	{ResolutionNotCarriedOut, "The verdicts of a decision are carried out in its step."},
	{ResolutionNoDecision, "A grant, a coalescing, and a conflict's rejection or retry come from a decision of the same step."},
	{ResolutionExecutingLost, "An executing operation is never rejected for a conflict."},
	{ResolutionUndecided, "A staging area that can be decided is, in the same step, unless the step is full or as many operations execute as may."},
	{ResolutionStagingBound, "A staging area holds no more than the policy's maximum, follow-ups aside."},
	{ResolutionExecutingBound, "No more operations execute in a partition than the policy's maximum."},
	{ResolutionShed, "Only the lowest rank of a full staging area is shed."},
	{ResolutionPreemption, "An operation is preempted only if the policy and the operation allow it, by one of strictly higher effective priority, without what waiting adds, that is staged on the same target, whose window has passed."},
	{ResolutionNotPreempted, "An operation that may be preempted yields after its grace."},
	{ResolutionReplayDiffers, "The pure machine, given the recorded inputs, records the same effects."},

	{EffectsOverlap, "Two attempts on a target never overlap."},
	{EffectsNoResult, "A success has a result with a change in its step."},
	{EffectsSuperseded, "Only the current attempt's result counts."},
	{EffectsRefusedCurrent, "The current attempt's result or heartbeat is not refused."},
	{EffectsUndecodable, "A change that took effect can be read."},
	{EffectsBase, "A change applies to the revision that it was computed for."},
	{EffectsStale, "Nothing succeeds on another version than its expected_version."},
	{EffectsFold, "Every change that took effect can be folded."},
	{EffectsRevision, "Every effect counts one revision up and names its operation."},
	{EffectsVersion, "The version chain follows from the changes that succeeded."},
	{EffectsBorrow, "A borrowed value was the source's value at the revision named."},

	{CausesType, "Follow-up operations, and no others, name a cause."},
	{CausesMissing, "A follow-up's cause succeeded earlier and asked for it."},
	{CausesFollowUp, "In a quiescent history every follow-up that was asked for was submitted."},
	{CausesFollowUpLost, "A follow-up is not cancelled, does not expire, and is neither shed nor superseded."},
	{CausesCancel, "An operation is cancelled because somebody asked for it, and takes its descendants along unless that was not asked for."},
	{CausesCascade, "A descendant is cancelled with its ancestor while it is pending, and only if that is an ancestor on record which was cancelled with its descendants."},
	{CausesCascadeLost, "A cancel with descendants takes all that are pending in a partition when it is told, and those submitted before that are found out later."},
	{CausesAncestor, "A partition is told only of what another has cancelled with its descendants."},
	{CausesCascadeTold, "In a quiescent history every partition was told of what another has cancelled with its descendants."},

	{ViewsHead, "The view of an entity is what its history folds to."},
	{ViewsRecord, "The record of an operation is what its history says."},
	{ViewsEvent, "A public event says what the step that it names says."},
	{ViewsEventLost, "Every event of a step is told, unless it has aged out."},

	{ClientsLost, "A submission that was acknowledged to a client is in the history."},
	{ClientsRefused, "A submission that was refused to a client is not."},
	{ClientsResult, "The result that a client was told is what the history says."},
}

// Invariants returns the catalogue, in the order of the groups. The slice is the
// caller's.
func Invariants() []Invariant { return append([]Invariant(nil), invariants...) }
