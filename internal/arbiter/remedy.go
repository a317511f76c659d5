package arbiter

import "github.com/hierarchy-bus/hierarchy/pkg/op"

// WouldHaveWon returns the smallest change with which a loser of d would have won
// it: its own priority raised as little as possible, and, where not even CRITICAL
// is enough against a winner of the same priority that stood earlier in the log,
// submitted before that winner as well. It reports false when opID is not a loser
// that d lists, or nothing would have helped.
func WouldHaveWon(d *op.Decision, opID string) (op.Remedy, bool) {
	var winner, loser *op.Contender
	for i := range d.Contenders {
		switch c := &d.Contenders[i]; c.OpID {
		case d.Winner:
			winner = c
		case opID:
			loser = c
		}
	}
	if winner == nil || loser == nil {
		return op.Remedy{}, false
	}
	return RemedyOf(winner, loser), true
}

// RemedyOf is [WouldHaveWon] for two contenders of one decision.
func RemedyOf(winner, loser *op.Contender) op.Remedy {
	need := winner.Effective
	if winner.Place.Before(loser.Place) {
		need++ // a tie goes to the earlier one
	}
	if need <= op.Critical {
		// Waiting adds the same whatever the priority, up to the highest.
		return op.Remedy{Priority: max(op.Background, need-op.Priority(loser.Boost))}
	}
	before := winner.Place
	r := op.Remedy{Before: &before}
	if own := op.Critical - op.Priority(loser.Boost); loser.Effective < op.Critical {
		r.Priority = own
	}
	return r
}
