package submitter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// searchMargins are how long before the acceptance of an operation its journal
// entry is looked for. The instant is by the resolver's clock and the entry's time
// by the server's, so the first is what clocks usually differ by, and the last one
// is enough for any.
var searchMargins = []time.Duration{2 * time.Second, 10 * time.Minute, 1 << 62}

// Original returns an operation as it was accepted: with its params, labels and
// what else a record does not keep. It reads the dead letters and the journal. The
// error is OPS-1018 where there is no record of it, or the journal no longer has
// it.
func (s *Submitter) Original(ctx context.Context, opID string) (op.Operation, error) {
	if !op.Token(opID) {
		return op.Operation{}, op.Errorf(op.CodeBadID, "op_id", "op_id %.80q is not an id", opID)
	}
	data, found, err := s.bus.DeadLetter(ctx, opID)
	var letter deadLetter
	if err == nil && found && json.Unmarshal(data, &letter) == nil && letter.Operation.ID == opID {
		return letter.Operation, nil
	}
	r, err := s.find(ctx, opID)
	if err != nil {
		return op.Operation{}, err
	}
	for _, margin := range searchMargins {
		if o, found, err := s.search(ctx, &r, margin); found || err != nil {
			return o, err
		}
	}
	return op.Operation{}, op.Errorf(op.CodeNotFound, "op_id", "the journal has no entry with the submission of %s", opID)
}

// search reads the journal of the operation's partition from a while before its
// acceptance up to its record.
func (s *Submitter) search(ctx context.Context, r *op.Record, margin time.Duration) (o op.Operation, found bool, err error) {
	after, err := s.before(ctx, r, margin)
	if err != nil {
		return o, false, searchError(err)
	}
	quoted := []byte(`"` + r.OpID + `"`) // a token needs no escape
	for e, err := range s.bus.JournalRead(ctx, r.Partition, after) {
		if err != nil {
			return o, false, searchError(err)
		}
		if r.JournalSeq > 0 && e.Seq > r.JournalSeq {
			break
		}
		if !bytes.Contains(e.Data, quoted) {
			continue
		}
		var step arbiter.Step
		if err := json.Unmarshal(e.Data, &step); err != nil {
			return o, false, searchError(err)
		}
		for i := range step.In {
			if in := step.In[i].Submit; in != nil && in.Operation.ID == r.OpID {
				return in.Operation, true, nil
			}
		}
	}
	return o, false, nil
}

func searchError(err error) error {
	return fmt.Errorf("%w: %w", op.Errorf(op.CodeUnavailable, "", "the journal could not be read"), err)
}

// before is a journal sequence from before the acceptance of the operation. Entries
// that are gone stand before it.
func (s *Submitter) before(ctx context.Context, r *op.Record, margin time.Duration) (uint64, error) {
	if margin > 24*time.Hour || r.JournalSeq == 0 {
		return 0, nil
	}
	var failed error
	since := r.AcceptedAt.Add(-margin)
	n := sort.Search(int(r.JournalSeq), func(i int) bool {
		if failed != nil {
			return true
		}
		e, err := s.bus.JournalGet(ctx, uint64(i)+1)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			failed = err
		}
		return err == nil && !e.Time.Before(since)
	})
	return uint64(n), failed
}
