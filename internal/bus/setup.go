package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// The actions of a [Change].
const (
	ActionCreated   = "created"
	ActionUnchanged = "unchanged"
	ActionUpdated   = "updated"
	ActionDrift     = "drift"
)

// Change is what [Setup] did, or [Diff] would do, to one object.
type Change struct {
	Object string // the stream, or "stream > consumer"
	Action string // one of the actions above
	Detail string // which settings, from what to what
}

// DriftError: objects exist with settings that cannot be changed without losing
// meaning or data. Nothing was changed.
type DriftError struct {
	Drifts []Change
}

// Error names each object and setting.
func (e *DriftError) Error() string {
	var b strings.Builder
	b.WriteString("bus: the server differs from the wanted layout in what cannot be changed")
	for _, d := range e.Drifts {
		fmt.Fprintf(&b, "; %s: %s", d.Object, d.Detail)
	}
	return b.String()
}

// Setup creates what is missing and updates what may be updated. It is
// idempotent. Drift that matters (partition count, subjects, transform,
// retention, storage) is refused with a [*DriftError] before anything is
// changed. A server that the cluster misses is waited for, for five seconds at most.
func Setup(ctx context.Context, nc *nats.Conn, want Layout) ([]Change, error) {
	return setup(ctx, nc, want, true)
}

// Diff says what [Setup] would do, and does nothing. Drift is reported as a
// change, not as an error.
func Diff(ctx context.Context, nc *nats.Conn, want Layout) ([]Change, error) {
	return setup(ctx, nc, want, false)
}

func setup(ctx context.Context, nc *nats.Conn, want Layout, do bool) ([]Change, error) {
	if err := want.Check(); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("bus: setup: %w", err)
	}
	var changes []Change
	var apply []func() error
	var drift []Change
	for _, cfg := range want.streams() {
		c, f, err := planStream(ctx, js, cfg)
		if err != nil {
			return nil, fmt.Errorf("bus: setup: %s: %w", cfg.Name, err)
		}
		changes, apply = append(changes, c), append(apply, f)
		if c.Action == ActionDrift {
			drift = append(drift, c)
		}
	}
	c, f, err := planConsumer(ctx, js, want.workConsumer(op.DefaultPool))
	if err != nil {
		return nil, fmt.Errorf("bus: setup: %s: %w", c.Object, err)
	}
	changes, apply = append(changes, c), append(apply, f)
	if !do {
		return changes, nil
	}
	if len(drift) > 0 {
		return changes, &DriftError{Drifts: drift}
	}
	for i, f := range apply {
		if f == nil {
			continue
		}
		if err := install(ctx, f); err != nil {
			return changes[:i], fmt.Errorf("bus: setup: %s: %w", changes[i].Object, err)
		}
	}
	return changes, nil
}

// shortPatience is how long Setup waits for a server that the cluster misses: one
// that is just starting, or has lost its routes for a moment.
const shortPatience = 5 * time.Second

// install makes one object, which is safe to repeat.
func install(ctx context.Context, f func() error) error {
	for n, begun := 0, time.Now(); ; n++ {
		err := aroundErr(failSetup, f)
		switch {
		case code(err) == codeNoCluster:
			return fmt.Errorf("%w: %w", ErrNoCluster, err)
		case code(err) != codeNoPeers || time.Since(begun) > shortPatience || pause(ctx, n) != nil:
			return err
		}
	}
}

// planStream compares one stream with what is wanted. The function returned
// makes it so; nil: nothing to do.
func planStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (Change, func() error, error) {
	c := Change{Object: want.Name, Action: ActionUnchanged}
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		c.Action = ActionCreated
		return c, func() error { _, err := js.CreateStream(ctx, want); return err }, nil
	}
	if err != nil {
		return c, nil, err
	}
	have := s.CachedInfo().Config
	var hard, soft []string
	for _, f := range settings {
		h, w := f.get(have), f.get(want)
		if h == w {
			continue
		}
		d := fmt.Sprintf("%s %s, not %s", f.name, h, w)
		if f.hard {
			hard = append(hard, d)
		} else {
			soft = append(soft, d)
		}
	}
	c.Detail = strings.Join(append(hard, soft...), "; ")
	switch {
	case len(hard) > 0:
		c.Action, c.Detail = ActionDrift, strings.Join(hard, "; ")
		return c, nil, nil
	case len(soft) > 0:
		c.Action = ActionUpdated
		next := want
		next.Metadata = maps.Clone(have.Metadata) // the server keeps notes of its own there
		if next.Metadata == nil {
			next.Metadata = map[string]string{}
		}
		maps.Copy(next.Metadata, want.Metadata)
		next.Placement = have.Placement // an operator's choice
		return c, func() error { _, err := js.UpdateStream(ctx, next); return err }, nil
	}
	return c, nil, nil
}

// setting is one property of a stream that Setup compares.
type setting struct {
	name string
	hard bool // a difference is drift
	get  func(jetstream.StreamConfig) string
}

var settings = []setting{
	{"subjects", true, func(c jetstream.StreamConfig) string {
		return strings.Join(slices.Sorted(slices.Values(c.Subjects)), ",")
	}},
	{"subject_transform", true, func(c jetstream.StreamConfig) string {
		if c.SubjectTransform == nil {
			return "none"
		}
		return c.SubjectTransform.Source + " to " + c.SubjectTransform.Destination
	}},
	{"retention", true, func(c jetstream.StreamConfig) string { return c.Retention.String() }},
	{"storage", true, func(c jetstream.StreamConfig) string { return c.Storage.String() }},
	{"deny_delete", true, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.DenyDelete) }},
	{"deny_purge", true, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.DenyPurge) }},
	{"sealed", true, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.Sealed) }},
	{"allow_msg_schedules", true, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.AllowMsgSchedules) }},
	{"allow_msg_counter", true, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.AllowMsgCounter) }},
	{"allow_msg_ttl", true, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.AllowMsgTTL) }},
	{"description", false, func(c jetstream.StreamConfig) string { return fmt.Sprintf("%q", c.Description) }},
	{"metadata", false, func(c jetstream.StreamConfig) string { return c.Metadata[metaSchema] + c.Metadata[metaLayout] }},
	{"replicas", false, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.Replicas) }},
	{"discard", false, func(c jetstream.StreamConfig) string { return c.Discard.String() }},
	{"max_msgs", false, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.MaxMsgs) }},
	{"max_bytes", false, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.MaxBytes) }},
	{"max_age", false, func(c jetstream.StreamConfig) string { return c.MaxAge.String() }},
	{"max_msg_size", false, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.MaxMsgSize) }},
	{"max_msgs_per_subject", false, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.MaxMsgsPerSubject) }},
	{"duplicate_window", false, func(c jetstream.StreamConfig) string { return c.Duplicates.String() }},
	{"allow_direct", false, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.AllowDirect) }},
	{"allow_rollup", false, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.AllowRollup) }},
	{"allow_atomic", false, func(c jetstream.StreamConfig) string { return fmt.Sprint(c.AllowAtomicPublish) }},
	{"delete_marker_ttl", false, func(c jetstream.StreamConfig) string { return c.SubjectDeleteMarkerTTL.String() }},
}

// planConsumer does for the shared work consumer what planStream does for a
// stream. Everything about it may be updated.
func planConsumer(ctx context.Context, js jetstream.JetStream, want jetstream.ConsumerConfig) (Change, func() error, error) {
	c := Change{Object: StreamWork + " > " + want.Durable, Action: ActionUnchanged}
	put := func() error { _, err := js.CreateOrUpdateConsumer(ctx, StreamWork, want); return err }
	have, err := js.Consumer(ctx, StreamWork, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		c.Action = ActionCreated
		return c, put, nil
	}
	if err != nil {
		return c, nil, err
	}
	h := have.CachedInfo().Config
	for _, f := range []struct{ name, have, want string }{
		{"description", h.Description, want.Description},
		{"filter", h.FilterSubject, want.FilterSubject},
		{"ack_wait", h.AckWait.String(), want.AckWait.String()},
		{"max_ack_pending", fmt.Sprint(h.MaxAckPending), fmt.Sprint(want.MaxAckPending)},
		{"max_deliver", fmt.Sprint(h.MaxDeliver), fmt.Sprint(want.MaxDeliver)},
		{"metadata", h.Metadata[metaSchema], want.Metadata[metaSchema]},
	} {
		if f.have != f.want {
			c.Action = ActionUpdated
			c.Detail = strings.TrimPrefix(c.Detail+fmt.Sprintf("; %s %s, not %s", f.name, f.have, f.want), "; ")
		}
	}
	if c.Action == ActionUnchanged {
		return c, nil, nil
	}
	return c, put, nil
}
