package client

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Explanation says why an operation is where it is.
type Explanation struct {
	Record op.Record `json:"record"`
	// Text is the explanation in sentences, the most important first.
	Text []string `json:"text"`
	// Decision is the last decision about it; nil where there is none yet.
	Decision    *op.Decision `json:"decision"`
	DecisionSeq uint64       `json:"decision_seq"` // journal sequence
	Owner       string       `json:"owner"`        // the resolver that decided
	Contenders  []Contender  `json:"contenders"`   // best first
	// WouldHaveWon is the smallest change with which a loser would have won; nil
	// for a winner, and where no decision names the operation.
	WouldHaveWon *op.Remedy `json:"would_have_won"`
	// Raw is all that the system answered.
	Raw json.RawMessage `json:"-"`
}

// Contender is one operation that took part in a decision.
type Contender struct {
	op.Contender
	OpType string    `json:"op_type"` // "" where its record is gone
	Status op.Status `json:"status"`  // now
	This   bool      `json:"this"`    // the operation that was asked about
}

// String is the explanation in sentences.
func (x *Explanation) String() string { return strings.Join(x.Text, "\n") }

// Explain says why an operation won, lost or waits: who contended, by which rule
// it was decided, and what would have won. The error is [ErrNotFound] where there
// is no record of the operation.
func (c *Client) Explain(ctx context.Context, opID string) (*Explanation, error) {
	if !op.Token(opID) {
		return nil, mistake("", op.CodeBadID, "op_id", "op_id %.80q is not an id", opID)
	}
	data, err := ask[json.RawMessage](ctx, c, &question{verb: "explain", arg: opID, opID: opID})
	if err != nil {
		return nil, err
	}
	x := &Explanation{Raw: data}
	if err := json.Unmarshal(data, x); err != nil {
		return nil, trouble(opID, ErrUnavailable, err, "the answer cannot be read")
	}
	return x, nil
}
