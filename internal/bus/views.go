package bus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func kvSubject(bucket, key string) string { return "$KV." + bucket + "." + key }

// EntityMsg writes the head of an entity. The message is the emitter's.
func EntityMsg(id string, v []byte) *nats.Msg {
	return &nats.Msg{Subject: kvSubject(bucketEntities, id), Data: v}
}

// RecordMsg writes the status record of an operation.
func RecordMsg(opID string, v []byte) *nats.Msg {
	return &nats.Msg{Subject: kvSubject(bucketRecords, opID), Data: v}
}

// DeadMsg keeps an operation that was given up.
func DeadMsg(opID string, v []byte) *nats.Msg {
	return &nats.Msg{Subject: kvSubject(bucketDead, opID), Data: v}
}

// DeadGoneMsg takes an operation out of the dead letters. Once it is told, the
// letter of an earlier step does not come back.
func DeadGoneMsg(opID string) *nats.Msg {
	return &nats.Msg{Subject: kvSubject(bucketDead, opID), Header: nats.Header{headerKVOperation: {"DEL"}}}
}

// MarkMsg records that the outputs of every step of a partition up to step are
// published.
func MarkMsg(partition int, step uint64) *nats.Msg {
	return &nats.Msg{Subject: kvSubject(bucketMarks, markKey(partition)), Data: strconv.AppendUint(nil, step, 10)}
}

func markKey(partition int) string { return "p" + strconv.Itoa(partition) }

// EventMsg tells an event; subject is from [EventSubject]. id, if not empty,
// makes a repeat within seconds the same event.
func EventMsg(subject, id string, v []byte) *nats.Msg {
	m := &nats.Msg{Subject: subject, Data: v}
	if id != "" {
		m.Header = nats.Header{jetstream.MsgIDHeader: {id}}
	}
	return m
}

// WorkMsg offers a granted attempt to the executors of a pool.
func WorkMsg(pool, opType string, partition int, target string, v []byte) *nats.Msg {
	return &nats.Msg{Subject: WorkSubject(pool, opType, partition, target), Data: v}
}

// value reads a key of a bucket from the leader.
func (b *Bus) value(ctx context.Context, bucket, key string) (m stored, found bool, err error) {
	m, found, err = b.get(ctx, "KV_"+bucket, lastBySubject(kvSubject(bucket, key)))
	return m, found && !m.deleted(), err
}

// Entity reads the head of an entity from the leader.
func (b *Bus) Entity(ctx context.Context, id string) (data []byte, found bool, err error) {
	m, found, err := b.value(ctx, bucketEntities, id)
	return m.Data, found, err
}

// Record reads the status record of an operation from the leader.
func (b *Bus) Record(ctx context.Context, opID string) (data []byte, found bool, err error) {
	m, found, err := b.value(ctx, bucketRecords, opID)
	return m.Data, found, err
}

// DeadLetter reads an operation that was given up, from the leader.
func (b *Bus) DeadLetter(ctx context.Context, opID string) (data []byte, found bool, err error) {
	m, found, err := b.value(ctx, bucketDead, opID)
	return m.Data, found, err
}

// Mark is the last step of a partition whose outputs, with those of all before
// it, are published; 0: none.
func (b *Bus) Mark(ctx context.Context, partition int) (step uint64, err error) {
	m, found, err := b.value(ctx, bucketMarks, markKey(partition))
	if err != nil || !found {
		return 0, err
	}
	if step, err = strconv.ParseUint(string(m.Data), 10, 64); err != nil {
		return 0, fmt.Errorf("bus: mark of partition %d: %w", partition, err)
	}
	return step, nil
}

// KV is one value of a bucket.
type KV struct {
	Key   string
	Value []byte
	Rev   uint64 // stream sequence; greater is newer
}

// Entities walks over the heads of all entities. A head that changes meanwhile
// may come twice, the newer one later. An error is the last element.
func (b *Bus) Entities(ctx context.Context) iter.Seq2[KV, error] { return b.walk(ctx, bucketEntities) }

// Records walks over the status records of all operations that have not aged
// out, like [Bus.Entities].
func (b *Bus) Records(ctx context.Context) iter.Seq2[KV, error] { return b.walk(ctx, bucketRecords) }

// DeadLetters walks over the operations that were given up and have not aged
// out, like [Bus.Entities].
func (b *Bus) DeadLetters(ctx context.Context) iter.Seq2[KV, error] { return b.walk(ctx, bucketDead) }

// walkIdle is how long a walk waits for the rest when the server it reads from
// seems to lag behind the leader.
const walkIdle = time.Second

func (b *Bus) walk(ctx context.Context, bucket string) iter.Seq2[KV, error] {
	return func(yield func(KV, error) bool) {
		stream, prefix := "KV_"+bucket, "$KV."+bucket+"."
		last, err := b.lastSeq(ctx, stream)
		if err != nil {
			yield(KV{}, err)
			return
		}
		if last == 0 {
			return
		}
		stopped := false
		err = b.feed(ctx, feedConfig{
			stream: stream, policy: jetstream.DeliverLastPerSubjectPolicy, filters: []string{prefix + ">"},
			batch: 1000, idle: walkIdle,
			begin: func(pending uint64) bool { return pending > 0 },
		}, func(d delivery) bool {
			if !isMarker(d.Headers()) {
				stopped = !yield(KV{Key: strings.TrimPrefix(d.Subject(), prefix), Value: d.Data(), Rev: d.seq}, nil)
			}
			return !stopped && (d.pending > 0 || d.seq < last)
		})
		if err != nil && !stopped && !errors.Is(err, errIdle) {
			yield(KV{}, err)
		}
	}
}
