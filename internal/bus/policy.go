package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

var policySubject = kvSubject(bucketConfig, "policy")

// Policy reads the policy from the leader. rev grows with every change; 0:
// there is none.
func (b *Bus) Policy(ctx context.Context) (data []byte, rev uint64, err error) {
	m, found, err := b.value(ctx, bucketConfig, "policy")
	if err != nil || !found {
		return nil, 0, err
	}
	return m.Data, m.Seq, nil
}

// PutPolicy replaces the policy. The last writer wins: the revision returned is
// in every decision made under it. The error wraps [ErrUnknownOutcome] when no
// answer came.
func (b *Bus) PutPolicy(ctx context.Context, data []byte) (rev uint64, err error) {
	ack, err := b.Publish(ctx, policySubject, data, "", nil)
	return ack.Seq, err
}

// ErrPolicyChanged: the policy is not at the revision that was read.
var ErrPolicyChanged = errors.New("bus: the policy was changed meanwhile")

// UpdatePolicy replaces the policy if it is still at revision rev (0: there is
// none), else the error wraps [ErrPolicyChanged].
func (b *Bus) UpdatePolicy(ctx context.Context, data []byte, rev uint64) (uint64, error) {
	h := nats.Header{}
	h.Set(jetstream.ExpectedLastSubjSeqHeader, fmt.Sprint(rev))
	ack, err := b.Publish(ctx, policySubject, data, "", h)
	if code(err) == codeWrongSequence {
		return 0, fmt.Errorf("%w: %w", ErrPolicyChanged, err)
	}
	return ack.Seq, err
}

// PolicyRefusal says that a revision of the policy is not valid, so that the one
// before it stays in force. It is the value of policy.refused in OPS_CONFIG and
// out of date as soon as there is a newer policy.
type PolicyRefusal struct {
	Type     string    `json:"type"` // PolicyRefusalType
	Revision uint64    `json:"revision"`
	Error    *op.Error `json:"error"`
}

// PolicyRefusalType is the value of "type" in a [PolicyRefusal].
const PolicyRefusalType = "ops.v1.policy_refused"

const keyPolicyRefused = "policy.refused"

// RefusePolicy lets everybody see that a revision of the policy was refused.
// Several may say so; one of them is kept.
func (b *Bus) RefusePolicy(ctx context.Context, r PolicyRefusal) error {
	r.Type = PolicyRefusalType
	data, err := op.Marshal(r)
	if err != nil {
		return fmt.Errorf("bus: refuse policy: %w", err)
	}
	_, err = b.Publish(ctx, kvSubject(bucketConfig, keyPolicyRefused), data, fmt.Sprintf("policy-refused-%d", r.Revision), nil)
	return err
}

// PolicyRefused reads which revision of the policy was refused last. A caller
// compares it with the revision of the policy: only if they are the same, the
// policy on the server is not the one in force.
func (b *Bus) PolicyRefused(ctx context.Context) (r PolicyRefusal, found bool, err error) {
	m, found, err := b.value(ctx, bucketConfig, keyPolicyRefused)
	if err != nil || !found {
		return r, false, err
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return r, false, fmt.Errorf("bus: %s: %w", keyPolicyRefused, err)
	}
	return r, true, nil
}

// WatchPolicy calls f with the current policy, if there is one, before it
// returns, and then, from one goroutine, with every newer one until ctx ends.
// Revisions only grow; some may be skipped.
func (b *Bus) WatchPolicy(ctx context.Context, f func(data []byte, rev uint64)) error {
	data, rev, err := b.Policy(ctx)
	if err != nil {
		return err
	}
	if rev > 0 {
		f(data, rev)
	}
	go func() {
		// The only errors are the end of ctx and of the connection; neither
		// leaves anything to say.
		_ = b.feed(ctx, feedConfig{
			stream: "KV_" + bucketConfig, filters: []string{policySubject},
			policy: jetstream.DeliverByStartSequencePolicy, after: rev, batch: 16,
		}, func(d delivery) bool {
			if !isMarker(d.Headers()) {
				f(d.Data(), d.seq)
			}
			return true
		})
	}()
	return nil
}
