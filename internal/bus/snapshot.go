package bus

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pointer names the snapshot of a partition that counts. It is replaced by
// compare-and-set and only ever by a later step, so a deposed owner that wakes
// up in the middle of saving cannot bring an older snapshot back.
type pointer struct {
	Step       uint64 `json:"step"`
	JournalSeq uint64 `json:"journal_seq"`
	Object     string `json:"object"`
	Size       int    `json:"size"`
}

func pointerKey(partition int) string { return "snapshot." + strconv.Itoa(partition) }

func objectName(partition int, step uint64) string {
	return fmt.Sprintf("p%d.%d", partition, step)
}

func (b *Bus) pointer(ctx context.Context, partition int) (p pointer, rev uint64, err error) {
	m, found, err := b.value(ctx, bucketMarks, pointerKey(partition))
	if err != nil || !found {
		return p, m.Seq, err
	}
	if err := json.Unmarshal(m.Data, &p); err != nil {
		return p, 0, fmt.Errorf("bus: snapshot of partition %d: %w", partition, err)
	}
	return p, m.Seq, nil
}

// SaveSnapshot stores the state of a partition after step, which the journal
// holds at journalSeq. Saving a step that is not later than the stored one does
// nothing. Any size is fine; it is stored in chunks.
func (b *Bus) SaveSnapshot(ctx context.Context, partition int, step, journalSeq uint64, data []byte) error {
	old, rev, err := b.pointer(ctx, partition)
	if err != nil || step <= old.Step {
		return err
	}
	next := pointer{Step: step, JournalSeq: journalSeq, Object: objectName(partition, step), Size: len(data)}
	meta := jetstream.ObjectMeta{Name: next.Object, Description: fmt.Sprintf("Partition %d after step %d.", partition, step)}
	if err := aroundErr(failSave, func() error {
		_, err := b.objects.Put(ctx, meta, bytes.NewReader(data))
		return err
	}); err != nil {
		return fmt.Errorf("bus: save snapshot: %w", err)
	}
	body, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("bus: save snapshot: %w", err)
	}
	h := nats.Header{}
	h.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(rev, 10))
	if _, err := b.Publish(ctx, kvSubject(bucketMarks, pointerKey(partition)), body, "", h); err != nil {
		if code(err) != codeWrongSequence {
			return fmt.Errorf("bus: save snapshot: %w", err)
		}
		// Somebody was faster, or it was us and the answer was lost.
		if old, _, err = b.pointer(ctx, partition); err != nil {
			return err
		}
		if old.Object == next.Object {
			return nil
		}
		old = next
	}
	if old.Object == "" {
		return nil
	}
	if err := aroundErr(failDrop, func() error { return b.dropObject(ctx, old.Object) }); err != nil {
		return fmt.Errorf("bus: save snapshot: the former one stays: %w", err)
	}
	return nil
}

// dropObject deletes an object with its marker, which would stay for ever:
// every snapshot has a name of its own.
func (b *Bus) dropObject(ctx context.Context, name string) error {
	if err := b.objects.Delete(ctx, name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return err
	}
	s, err := b.js.Stream(ctx, "OBJ_"+bucketSnapshots)
	if err != nil {
		return err
	}
	marker := "$O." + bucketSnapshots + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
	return s.Purge(ctx, jetstream.WithPurgeSubject(marker))
}

// LoadSnapshot reads the stored state of a partition; ok is false when there is
// none.
func (b *Bus) LoadSnapshot(ctx context.Context, partition int) (step, journalSeq uint64, data []byte, ok bool, err error) {
	for n := 0; ; n++ {
		p, _, err := b.pointer(ctx, partition)
		if err != nil || p.Object == "" {
			return 0, 0, nil, false, err
		}
		data, err := b.objects.GetBytes(ctx, p.Object)
		if err == nil && len(data) != p.Size {
			err = fmt.Errorf("%d bytes, not %d", len(data), p.Size)
		}
		if err == nil {
			return p.Step, p.JournalSeq, data, true, nil
		}
		// It may have been replaced between the two reads.
		if n >= 5 || pause(ctx, n+3) != nil {
			return 0, 0, nil, false, fmt.Errorf("bus: load snapshot %s: %w", p.Object, err)
		}
	}
}
