package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The intake feed reads ahead this many messages and asks for that many at
// once: enough that a resolver finds its next group ready.
const (
	intakeBuffer = 1024
	intakePull   = 500
)

// IntakeMsg is one message of the intake.
type IntakeMsg struct {
	Seq    uint64 // its place in the log: the order that settles ties
	Kind   IntakeKind
	Key    string // last token of the subject: a target, by convention
	Data   []byte
	Header nats.Header
	Time   time.Time // of the server; never used to decide
}

// IntakeFeed delivers the intake of one partition.
type IntakeFeed struct {
	c   chan IntakeMsg
	mu  sync.Mutex
	err error
}

// C delivers the messages in order, each once. It is closed when the context
// ends or nothing can help; then see [IntakeFeed.Err].
func (f *IntakeFeed) C() <-chan IntakeMsg { return f.c }

// Err says why C was closed; nil before that and when the context ended.
func (f *IntakeFeed) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *IntakeFeed) close(err error) {
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
	close(f.c)
}

// Intake delivers the messages of a partition with sequences above after, and
// heals itself when the consumer's server changes. The feed ends with ctx.
func (b *Bus) Intake(ctx context.Context, partition int, after uint64) (*IntakeFeed, error) {
	if partition < 0 || partition >= b.layout.Partitions {
		return nil, fmt.Errorf("bus: intake: no partition %d of %d", partition, b.layout.Partitions)
	}
	f := &IntakeFeed{c: make(chan IntakeMsg, intakeBuffer)}
	cfg := feedConfig{
		stream: StreamIntake, filters: []string{intakeFilter(partition)},
		policy: jetstream.DeliverByStartSequencePolicy, after: after, batch: intakePull,
	}
	go func() {
		var bad error
		err := b.feed(ctx, cfg, func(d delivery) bool {
			failIntake.Hit()
			m := IntakeMsg{Seq: d.seq, Data: d.Data(), Header: d.Headers(), Time: d.time}
			if _, m.Kind, m.Key, bad = ParseIntake(d.Subject()); bad != nil {
				return false // the stream's transform is not ours: nothing may be skipped
			}
			select {
			case f.c <- m:
				return true
			case <-ctx.Done():
				return false
			}
		})
		if ctx.Err() != nil {
			err, bad = nil, nil
		}
		f.close(errors.Join(err, bad))
	}()
	return f, nil
}

func intakeFilter(partition int) string { return "ops.intake." + strconv.Itoa(partition) + ".>" }

// LastIntake is the last sequence stored for a partition, from the leader; 0
// when there is none, or all is trimmed.
func (b *Bus) LastIntake(ctx context.Context, partition int) (uint64, error) {
	m, _, err := b.get(ctx, StreamIntake, lastBySubject(intakeFilter(partition)))
	return m.Seq, err
}

// IntakeEnd is the last sequence that the intake has given, of any partition: what
// is acknowledged now stands at or before it.
func (b *Bus) IntakeEnd(ctx context.Context) (uint64, error) { return b.lastSeq(ctx, StreamIntake) }

// TrimIntake removes the partition's messages with sequences up to and
// including upTo. Trimming twice is fine.
func (b *Bus) TrimIntake(ctx context.Context, partition int, upTo uint64) error {
	if upTo == 0 {
		return nil
	}
	err := aroundErr(failTrim, func() error {
		return b.intake.Purge(ctx, jetstream.WithPurgeSubject(intakeFilter(partition)), jetstream.WithPurgeSequence(upTo+1))
	})
	if err != nil {
		return fmt.Errorf("bus: trim intake: %w", err)
	}
	return nil
}
