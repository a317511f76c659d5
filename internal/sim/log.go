package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// client is what internal/bus makes of the server for one process: the same
// protocol, request by request, against the model. It is the [resolver.Log] and the
// executor's log of every process of the simulation.
type client struct{ *cluster }

var _ resolver.Log = (*client)(nil)

// Layout says how many partitions there are.
func (c *client) Layout() bus.Layout {
	l := bus.DefaultLayout()
	l.Partitions, l.Replicas = c.partitions, 3
	return l
}

func entryOf(m *message, partition int) bus.Entry {
	return bus.Entry{
		Seq: m.seq, Subject: m.subject, Partition: partition, ID: first(m.header, bus.HeaderStepID), Data: m.data, Time: began.Add(m.at),
	}
}

// JournalLast reads the last entry of a partition from the leader.
func (c *client) JournalLast(_ context.Context, partition int) (bus.Entry, bool, error) {
	subject := bus.JournalSubject(partition)
	m := c.read(c.journal, "journal last", subject, func(upTo uint64) *message { return c.journal.newest(subject, upTo) })
	if m == nil {
		return bus.Entry{}, false, nil
	}
	return entryOf(m, partition), true, nil
}

// appendPatience is how long a commit is tried; a take-over is tried for ever.
const appendPatience = 30 * time.Second

// JournalAppend appends a step, as [bus.Bus.JournalAppend] does.
func (c *client) JournalAppend(ctx context.Context, partition int, id string, data []byte, expected uint64) (uint64, bus.Outcome, error) {
	until := time.Duration(-1)
	if _, bounded := ctx.Deadline(); bounded {
		until = c.k.now + appendPatience
	}
	if c.k.chance(c.faults.Short) { // its connection is closed, say
		until = c.k.now
	}
	subject := bus.JournalSubject(partition)
	m := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{
		headerExpected:   {strconv.FormatUint(expected, 10)},
		bus.HeaderStepID: {id},
	}}
	for n := 0; ; n++ {
		ack, err := c.publish(m)
		if err == nil {
			return ack.Seq, bus.Committed, nil
		}
		if errors.Is(err, refusal(codeWrongSeq)) {
			next := c.read(c.journal, "journal next", subject, func(upTo uint64) *message { return c.journal.nextOf(subject, expected+1, upTo) })
			switch {
			case next == nil:
			case first(next.header, bus.HeaderStepID) == id:
				c.stats.SettledCommitted++
				return next.seq, bus.Committed, nil
			default:
				c.stats.Deposed++
				return 0, bus.Deposed, nil
			}
		}
		if until >= 0 && c.k.now >= until {
			c.stats.Unknown++
			c.doubts = append(c.doubts, id)
			return 0, bus.Unknown, fmt.Errorf("%w: append to %s: %w", bus.ErrUnknownOutcome, subject, err)
		}
		c.pause(n)
	}
}

// JournalRead reads the entries of a partition up to its end.
func (c *client) JournalRead(ctx context.Context, partition int, afterSeq uint64) iter.Seq2[bus.Entry, error] {
	return func(yield func(bus.Entry, error) bool) {
		last, _, _ := c.JournalLast(ctx, partition) // it asks until it is answered
		subject := bus.JournalSubject(partition)
		for _, m := range c.journal.by[subject] {
			if m.seq <= afterSeq || m.seq > last.Seq {
				continue
			}
			if c.k.chance(50) {
				c.k.current.sleep(c.latency()) // the next pull
			}
			if !yield(entryOf(m, partition), nil) {
				return
			}
		}
	}
}

// value reads a key of a bucket from the leader.
func (c *client) value(bucket, key string) *message {
	s, subject := c.buckets[bucket], "$KV."+bucket+"."+key
	m := c.read(s, "read", subject, func(upTo uint64) *message { return s.newest(subject, upTo) })
	if m == nil || first(m.header, headerKV) != "" {
		return nil
	}
	return m
}

// Mark is how far the outputs of a partition are told.
func (c *client) Mark(_ context.Context, partition int) (uint64, error) {
	m := c.value("OPS_MARKS", "p"+strconv.Itoa(partition))
	if m == nil {
		return 0, nil
	}
	return strconv.ParseUint(string(m.data), 10, 64)
}

// pointer names the snapshot of a partition that counts.
type pointer struct {
	Step       uint64 `json:"step"`
	JournalSeq uint64 `json:"journal_seq"`
	Object     string `json:"object"`
}

func (c *client) pointer(partition int) (p pointer, rev uint64, err error) {
	m := c.value("OPS_MARKS", "snapshot."+strconv.Itoa(partition))
	if m == nil {
		return p, 0, nil
	}
	return p, m.seq, json.Unmarshal(m.data, &p)
}

// LoadSnapshot reads the stored state of a partition.
func (c *client) LoadSnapshot(_ context.Context, partition int) (step, journalSeq uint64, data []byte, ok bool, err error) {
	for n := 0; ; n++ {
		p, _, err := c.pointer(partition)
		if err != nil || p.Object == "" {
			return 0, 0, nil, false, err
		}
		c.k.current.sleep(c.latency())
		if data, ok := c.objects[p.Object]; ok {
			c.stats.SnapshotsRead++
			return p.Step, p.JournalSeq, data, true, nil
		}
		if n >= 5 {
			return 0, 0, nil, false, errors.New("sim: the snapshot was replaced again and again")
		}
		c.pause(n + 3)
	}
}

// SaveSnapshot stores the state of a partition, object first, then pointer.
func (c *client) SaveSnapshot(ctx context.Context, partition int, step, journalSeq uint64, data []byte) error {
	old, rev, err := c.pointer(partition)
	if err != nil || step <= old.Step {
		return err
	}
	next := pointer{Step: step, JournalSeq: journalSeq, Object: fmt.Sprintf("p%d.%d", partition, step)}
	c.k.current.sleep(c.latency())
	c.objects[next.Object] = data
	body, err := json.Marshal(next)
	if err != nil {
		return err
	}
	h := nats.Header{headerExpected: {strconv.FormatUint(rev, 10)}}
	if _, err := c.Publish(ctx, "$KV.OPS_MARKS.snapshot."+strconv.Itoa(partition), body, "", h); err != nil {
		if !errors.Is(err, refusal(codeWrongSeq)) {
			return err
		}
		if old, _, err = c.pointer(partition); err != nil || old.Object == next.Object {
			return err
		}
		old = next
	}
	c.stats.Snapshots++
	c.k.current.sleep(c.latency())
	delete(c.objects, old.Object)
	return nil
}

func intakeFilter(partition int) string { return "ops.intake." + strconv.Itoa(partition) + ".>" }

// LastIntake is the last sequence stored for a partition.
func (c *client) LastIntake(_ context.Context, partition int) (uint64, error) {
	filter := intakeFilter(partition)
	m := c.read(c.intake, "intake last", filter, func(upTo uint64) *message { return c.intake.newest(filter, upTo) })
	if m == nil {
		return 0, nil
	}
	return m.seq, nil
}

// IntakeEnd is the last sequence that the intake has given.
func (c *client) IntakeEnd(context.Context) (uint64, error) {
	c.k.current.sleep(c.latency())
	return c.intake.last, nil
}

// TrimIntake removes a partition's messages up to a sequence.
func (c *client) TrimIntake(_ context.Context, partition int, upTo uint64) error {
	if upTo == 0 {
		return nil
	}
	prefix := intakeFilter(partition)
	return c.call(c.intake, "trim", prefix, true, func() int {
		c.intake.purge(prefix[:len(prefix)-1], upTo+1)
		c.stats.Trims++
		return codeOK
	})
}

// Entity reads the head of an entity from the leader.
func (c *client) Entity(_ context.Context, id string) ([]byte, bool, error) {
	return found(c.value("OPS_ENTITIES", id))
}

// Record reads the record of an operation from the leader.
func (c *client) Record(_ context.Context, opID string) ([]byte, bool, error) {
	return found(c.value("OPS_OPERATIONS", opID))
}

func found(m *message) ([]byte, bool, error) {
	if m == nil {
		return nil, false, nil
	}
	return m.data, true, nil
}

// Policy reads the policy from the leader.
func (c *client) Policy(context.Context) ([]byte, uint64, error) {
	if m := c.value("OPS_CONFIG", "policy"); m != nil {
		return m.data, m.seq, nil
	}
	return nil, 0, nil
}

// Publish stores one message, as [bus.Bus.Publish] does.
func (c *client) Publish(_ context.Context, subject string, body []byte, msgID string, hdr nats.Header) (bus.Ack, error) {
	m := &nats.Msg{Subject: subject, Data: body, Header: nats.Header{}}
	maps.Copy(m.Header, hdr)
	if msgID != "" {
		m.Header[headerMsgID] = []string{msgID}
	}
	for n := 0; ; n++ {
		ack, err := c.publish(m)
		switch {
		case err == nil:
			return ack, nil
		case errors.Is(err, refusal(codeNobody)), errors.Is(err, refusal(codeBusy)):
			c.pause(n + 5)
			if n < 20 {
				continue
			}
		case errors.Is(err, refusal(codeWrongSeq)):
			return ack, err
		}
		return ack, fmt.Errorf("%w: publish %s: %w", bus.ErrUnknownOutcome, subject, err)
	}
}

// PublishLoad tells how full a partition is; nobody here listens.
func (c *client) PublishLoad(bus.Load) error { return nil }

// ControlMsg asks something of a partition.
func (c *client) ControlMsg(partition int, id string, what bus.Control) (*nats.Msg, error) {
	body, err := op.Marshal(what)
	return &nats.Msg{Subject: "ops.control." + c.control[partition], Data: body, Header: nats.Header{headerMsgID: {id}}}, err
}

// Outbox returns a model of [bus.Emitter].
func (c *client) Outbox() resolver.Outbox { return &outbox{c: c, keys: map[string]*viewKey{}} }
