package op

import "time"

// Rule names what decided a resolution.
type Rule string

// The rules of contract §3, in the order in which they are asked.
const (
	RuleOnly     Rule = "only_contender"     // nobody else was staged
	RulePriority Rule = "effective_priority" // rule 3
	RuleOrder    Rule = "log_order"          // rule 4: a tie, broken by the log
)

// Verdict is what a decision means for one contender.
type Verdict string

// The verdicts.
const (
	VerdictWon      Verdict = "won"
	VerdictRejected Verdict = "rejected"
	VerdictQueued   Verdict = "queued"
	VerdictRetry    Verdict = "retry"
	// VerdictCoalesced: identical to the winner, whose outcome it shares.
	VerdictCoalesced Verdict = "coalesced"
)

// Place is the position of an operation in the log: the sequence of its intake
// message and its index within it. It breaks ties.
type Place struct {
	Seq   uint64 `json:"seq"`
	Index int    `json:"i,omitempty"`
}

// Before reports whether p stands earlier in the log than q.
func (p Place) Before(q Place) bool {
	return p.Seq < q.Seq || p.Seq == q.Seq && p.Index < q.Index
}

// Inheritance says how an effective priority came about (contract §3.3).
type Inheritance struct {
	// Path leads from the operation's parent to the ancestor whose priority
	// was inherited; empty when the operation's own priority was the highest.
	Path []string `json:"path,omitempty"`
	// UnknownParent is the ancestor that nobody has submitted, if the walk
	// ended there.
	UnknownParent string `json:"unknown_parent,omitempty"`
	// Cycle is true when the walk met an operation twice; each was counted once.
	Cycle bool `json:"cycle,omitempty"`
	// Truncated is true when the walk ended at the depth limit.
	Truncated bool `json:"truncated,omitempty"`
}

// Contender is one operation in a decision.
type Contender struct {
	OpID      string   `json:"op_id"`
	Priority  Priority `json:"priority"`
	Effective Priority `json:"effective_priority"`
	// Asked is the priority that the submitter asked for, where the policy
	// allowed less or demanded more.
	Asked Priority `json:"asked_priority,omitempty"`
	// Boost is what waiting has added to the effective priority (aging).
	Boost int `json:"boost,omitempty"`
	Place
	Inheritance
	Verdict Verdict `json:"verdict"`
	Reason  Reason  `json:"reason,omitempty"`
}

// MaxListed bounds the queued contenders that a decision lists by name: those
// that stay staged are counted in Total and listed by a later decision. Every
// contender whose status changes is listed, however many there are.
const MaxListed = 16

// Decision is the durable record of one resolution: contenders, winner, rule
// and the verdict for each loser (contract §3). It is a pure function of
// recorded inputs.
type Decision struct {
	ID             string      `json:"decision_id"`
	Target         string      `json:"target_entity_id"`
	At             time.Time   `json:"at"`
	WindowOpened   time.Time   `json:"window_opened"`
	WindowClosed   time.Time   `json:"window_closed"` // when it could be resolved; At minus this is the decision latency
	PolicyRevision uint64      `json:"policy_revision"`
	Winner         string      `json:"winner"`
	Rule           Rule        `json:"rule"`
	Total          int         `json:"total"`      // contenders in all
	Contenders     []Contender `json:"contenders"` // best first
}
