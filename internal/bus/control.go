package bus

import (
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Control is what a message on [Bus.ControlSubject] asks of the whole partition.
// Exactly one of Ancestors and Submitter is set (ADR 0012).
type Control struct {
	// Ancestors: cancel what is pending and descends from these operations,
	// which another partition has cancelled; at most [MaxAncestors].
	Ancestors []string `json:"ancestors,omitempty"`
	// Submitter: cancel every operation of this submitter.
	Submitter string `json:"submitter,omitempty"`
	// Cascade: false spares the pending descendants of what is cancelled of a
	// submitter.
	Cascade *bool `json:"cascade,omitempty"`
}

// MaxAncestors bounds a message, which is one input of one step.
const MaxAncestors = 1000

// ControlSubject is where something is asked of a whole partition. The server
// computes the partition from the last token, as it does for targets, so the
// token is the least number that leads there; every other token that leads there
// would do as well.
func (b *Bus) ControlSubject(partition int) string { return "ops.control." + b.control[partition] }

// controlTokens finds a token that leads to each of n partitions.
func controlTokens(n int) []string {
	tokens := make([]string, n)
	for i, missing := 0, n; missing > 0; i++ {
		token := strconv.Itoa(i)
		if p := PartitionOf(token, n); tokens[p] == "" {
			tokens[p] = token
			missing--
		}
	}
	return tokens
}

// ControlMsg asks something of a partition. id makes a repeat within two minutes
// the same message; later ones change nothing either.
func (b *Bus) ControlMsg(partition int, id string, what Control) (*nats.Msg, error) {
	body, err := op.Marshal(what)
	if err != nil {
		return nil, fmt.Errorf("bus: control: %w", err)
	}
	m := nats.NewMsg(b.ControlSubject(partition))
	m.Data = body
	m.Header.Set(jetstream.MsgIDHeader, id)
	return m, nil
}
