package op

// Reason says why an operation did not go on: a closed list with stable codes
// (contract §5). The empty reason means that there is nothing to explain.
type Reason string

// The closed list.
const (
	LowerPriority       Reason = "lower_priority"
	LaterSubmission     Reason = "later_submission"
	StagingFull         Reason = "staging_full"
	Overloaded          Reason = "overloaded"
	Expired             Reason = "expired"
	CancelledByRequest  Reason = "cancelled"
	CancelledWithParent Reason = "cancelled_with_parent"
	Preempted           Reason = "preempted"
	MaxRetries          Reason = "max_retries"
	TerminalError       Reason = "terminal_error"
	Invalid             Reason = "invalid"
	UnknownType         Reason = "unknown_type"
	StaleVersion        Reason = "stale_version"
	Paused              Reason = "paused"
	Superseded          Reason = "superseded"
	Coalesced           Reason = "coalesced"
)

// ReasonInfo documents one reason.
type ReasonInfo struct {
	Reason Reason
	Code   string // stable, OPS-2xxx
	Text   string // one paragraph for a person
}

// reasons is the catalogue; its order is the order of the codes.
var reasons = []ReasonInfo{
	{LowerPriority, "OPS-2001", "Another operation staged on the same target had a higher effective priority when the window closed. The record names the winner and the decision; the target was never touched by this operation."},
	{LaterSubmission, "OPS-2002", "Another operation staged on the same target had the same effective priority and stood earlier in the log. Ties are broken by the order of the log, never by a client's clock."},
	{StagingFull, "OPS-2003", "The staging area of the target was full and this operation had the lowest rank, so it was shed. Submit again when the backlog of the target has gone down."},
	{Overloaded, "OPS-2004", "The system had no room for another operation. Nothing is wrong with the operation itself; submit it again after retry_after."},
	{Expired, "OPS-2005", "The deadline of the operation, or the maximum age of a pending operation, passed before it could be executed. It never ran after that instant."},
	{CancelledByRequest, "OPS-2006", "Somebody asked for the cancellation of this operation before it was executed."},
	{CancelledWithParent, "OPS-2007", "An ancestor of this operation was cancelled with cascade, and this operation was still pending."},
	{Preempted, "OPS-2008", "A pending operation of strictly higher effective priority took the target after the grace period. The preempted operation is pending again and loses no retry."},
	{MaxRetries, "OPS-2009", "Every attempt failed and the retries are used up. The record keeps the last real error."},
	{TerminalError, "OPS-2010", "The handler said that trying again cannot help. The record keeps its error."},
	{Invalid, "OPS-2011", "The submission broke a rule of the wire format. The record names the rule with a code OPS-1xxx."},
	{UnknownType, "OPS-2012", "No operation type of that name is registered."},
	{StaleVersion, "OPS-2013", "The operation named an expected_version that was not the entity's version when it was executed. The record names the current version."},
	{Paused, "OPS-2014", "The target or the operation type is paused by an operator."},
	{Superseded, "OPS-2015", "The same submitter sent a newer operation of this type for the same target while this one was pending, and the operator chose that the newest replaces the older ones. The record names the newer one."},
	{Coalesced, "OPS-2016", "An identical operation won while this one was staged, and the operator chose that identical operations become one. The record names the winner, whose outcome is this one's, too; nothing was done twice."},
}

// Reasons returns the closed list in the order of its codes. The slice is the
// caller's.
func Reasons() []ReasonInfo { return append([]ReasonInfo(nil), reasons...) }

// Code returns the stable code of r, or "" for a reason outside the list.
func (r Reason) Code() string {
	for i := range reasons {
		if reasons[i].Reason == r {
			return reasons[i].Code
		}
	}
	return ""
}
