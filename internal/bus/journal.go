package bus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Outcome of an append to the journal.
type Outcome int

// The outcomes. The zero value is none of them.
const (
	// Committed: the step is in the journal, exactly once.
	Committed Outcome = iota + 1
	// Deposed: another writer has appended behind the expected entry. The step
	// is not in the journal and never will be.
	Deposed
	// Unknown: the context ended first. The step may be in the journal, or
	// still get there, until somebody else has appended.
	Unknown
)

// String returns the outcome's name.
func (o Outcome) String() string {
	switch o {
	case Committed:
		return "committed"
	case Deposed:
		return "deposed"
	case Unknown:
		return "unknown"
	}
	return "Outcome(" + strconv.Itoa(int(o)) + ")"
}

// Entry is one message of the journal.
type Entry struct {
	Seq       uint64
	Subject   string
	Partition int
	ID        string // of the step
	Data      []byte
	Time      time.Time // of the server; never used to decide
}

func entryOf(m stored) (Entry, error) {
	e := Entry{Seq: m.Seq, Subject: m.Subject, ID: m.header(HeaderStepID), Data: m.Data, Time: m.Time}
	var err error
	e.Partition, err = ParseJournal(m.Subject)
	return e, err
}

// JournalLast is the last entry of a partition, from the leader; ok is false
// when there is none. A leader that was just deposed may answer: the next
// append tells.
func (b *Bus) JournalLast(ctx context.Context, partition int) (e Entry, ok bool, err error) {
	m, ok, err := b.get(ctx, StreamJournal, lastBySubject(JournalSubject(partition)))
	if err != nil || !ok {
		return Entry{}, false, err
	}
	e, err = entryOf(m)
	return e, err == nil, err
}

// JournalBounds returns the first and the last sequence of the journal; last is 0
// while it is empty. A cluster without a leader is asked again until ctx ends; the
// error says that there is no journal, or that it may not be read.
func (b *Bus) JournalBounds(ctx context.Context) (first, last uint64, err error) {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, boundsWait)
		s, err := b.js.Stream(attempt, StreamJournal)
		cancel()
		if err == nil {
			state := s.CachedInfo().State
			return max(state.FirstSeq, 1), state.LastSeq, nil
		}
		if hopeless(err) || ctx.Err() != nil || pause(ctx, n) != nil {
			return 0, 0, notSetUp("journal", err)
		}
	}
}

// boundsWait is how long one question for the bounds of the journal may take.
const boundsWait = 5 * time.Second

// JournalGet is one entry by its sequence, from the leader. The error wraps
// [ErrNotFound] when there is none.
func (b *Bus) JournalGet(ctx context.Context, seq uint64) (Entry, error) {
	m, ok, err := b.get(ctx, StreamJournal, `{"seq":`+strconv.FormatUint(seq, 10)+`}`)
	if err != nil {
		return Entry{}, err
	}
	if !ok {
		return Entry{}, fmt.Errorf("%w: journal sequence %d", ErrNotFound, seq)
	}
	return entryOf(m)
}

// JournalAppend appends a step behind the entry with sequence expected, the
// partition's last one (0: none). id must be unique to the step: it settles
// what an unanswered attempt did. In the good case it is one round trip.
//
// While nobody answers the same message is sent again, which the expected
// sequence makes safe, until ctx ends. err is not nil exactly when the outcome
// is [Unknown].
func (b *Bus) JournalAppend(ctx context.Context, partition int, id string, data []byte, expected uint64) (seq uint64, out Outcome, err error) {
	// No message id here: with replicas, a duplicate is answered before the
	// expected sequence is looked at.
	m := &nats.Msg{Subject: JournalSubject(partition), Data: data, Header: nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(expected, 10)},
		HeaderStepID:                        {id},
	}}
	for n := 0; ; n++ {
		ack, err := around(failAppend, func() (Ack, error) { return b.request(ctx, m) })
		if err == nil {
			return ack.Seq, Committed, nil
		}
		if code(err) == codeWrongSequence {
			if seq, out, err = b.settle(ctx, m.Subject, id, expected); out != 0 {
				return seq, out, err
			}
		}
		if hopeless(err) && code(err) != codeWrongSequence {
			return 0, Unknown, unknown("append to "+m.Subject, err)
		}
		if perr := pause(ctx, n); perr != nil {
			return 0, Unknown, unknown("append to "+m.Subject, errors.Join(perr, err))
		}
	}
}

// settle finds out who has appended behind expected: the one entry there is
// ours or another's. Neither can be seen for a moment when a deposed leader
// answers; then out is 0.
func (b *Bus) settle(ctx context.Context, subject, id string, expected uint64) (seq uint64, out Outcome, err error) {
	m, ok, err := b.get(ctx, StreamJournal, nextBySubject(expected+1, subject))
	switch {
	case err != nil:
		return 0, Unknown, unknown("append to "+subject, err)
	case !ok:
		return 0, 0, nil
	case m.header(HeaderStepID) == id:
		return m.Seq, Committed, nil
	}
	return 0, Deposed, nil
}

// journalPull is small enough that a pull of large steps stays within a few
// hundred megabytes, which the server paces anyway.
const journalPull = 256

// JournalRead reads the entries of one partition with sequences above afterSeq,
// up to the last one at the time of the call. Partition -1 reads all
// partitions. The iteration ends with an error as its last element where it
// cannot go on; the error wraps [ErrGap] when entries that the leader has named
// do not come.
func (b *Bus) JournalRead(ctx context.Context, partition int, afterSeq uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		last, err := b.journalEnd(ctx, partition)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		if last <= afterSeq {
			return
		}
		cfg := feedConfig{
			stream: StreamJournal, policy: jetstream.DeliverByStartSequencePolicy, after: afterSeq,
			batch: journalPull, idle: 10 * time.Second,
		}
		if partition >= 0 {
			cfg.filters = []string{JournalSubject(partition)}
		}
		b.entries(ctx, cfg, last, yield)
	}
}

// journalEnd is the sequence at which JournalRead ends.
func (b *Bus) journalEnd(ctx context.Context, partition int) (uint64, error) {
	if partition >= 0 {
		e, _, err := b.JournalLast(ctx, partition)
		return e.Seq, err
	}
	// Not the stream's own last sequence: that message may be purged.
	m, _, err := b.get(ctx, StreamJournal, lastBySubject("ops.journal.*"))
	return m.Seq, err
}

// JournalFollow reads the entries of all partitions with sequences above
// afterSeq, and goes on with new ones until ctx ends, which ends the iteration
// without an error.
func (b *Bus) JournalFollow(ctx context.Context, afterSeq uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		cfg := feedConfig{
			stream: StreamJournal, policy: jetstream.DeliverByStartSequencePolicy, after: afterSeq, batch: journalPull,
		}
		b.entries(ctx, cfg, 0, yield)
	}
}

// entries yields a feed of the journal up to the entry with sequence last; 0:
// for ever.
func (b *Bus) entries(ctx context.Context, cfg feedConfig, last uint64, yield func(Entry, error) bool) {
	stopped, at := false, cfg.after
	var bad error
	err := b.feed(ctx, cfg, func(d delivery) bool {
		e := Entry{Seq: d.seq, Subject: d.Subject(), ID: d.Headers().Get(HeaderStepID), Data: d.Data(), Time: d.time}
		if e.Partition, bad = ParseJournal(e.Subject); bad != nil {
			return false
		}
		at = d.seq
		stopped = !yield(e, nil)
		return !stopped && (last == 0 || d.seq < last)
	})
	switch {
	case stopped:
	case bad != nil:
		yield(Entry{}, bad)
	case errors.Is(err, errIdle):
		yield(Entry{}, fmt.Errorf("%w: journal entries %d to %d", ErrGap, at+1, last))
	case err != nil && (last != 0 || ctx.Err() == nil):
		yield(Entry{}, err)
	}
}

// CompactJournal removes the entries of a partition with sequences up to and
// including upTo, except the partition's last one: that is the fence. Call it
// only behind a snapshot that was read back; what it removes is history.
func (b *Bus) CompactJournal(ctx context.Context, partition int, upTo uint64) error {
	last, ok, err := b.JournalLast(ctx, partition)
	if err != nil || !ok || upTo == 0 {
		return err
	}
	upTo = min(upTo, last.Seq-1)
	s, err := b.js.Stream(ctx, StreamJournal)
	if err != nil {
		return notSetUp("compact journal", err)
	}
	err = s.Purge(ctx, jetstream.WithPurgeSubject(JournalSubject(partition)), jetstream.WithPurgeSequence(upTo+1))
	if err != nil {
		return fmt.Errorf("bus: compact journal: %w", err)
	}
	return nil
}
