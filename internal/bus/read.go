package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// apiPrefix is where the server's JetStream API listens.
const apiPrefix = "$JS.API."

// stored is a message as the leader of a stream holds it.
type stored struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Hdrs    []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// header is one header of the message, or empty.
func (s *stored) header(key string) string {
	if len(s.Hdrs) == 0 {
		return ""
	}
	h, err := nats.DecodeHeadersMsg(s.Hdrs)
	if err != nil {
		return ""
	}
	return h.Get(key)
}

// deleted reports whether the message is a marker of a bucket: the key has no
// value.
func (s *stored) deleted() bool {
	if len(s.Hdrs) == 0 || !(bytes.Contains(s.Hdrs, []byte(headerKVOperation)) || bytes.Contains(s.Hdrs, []byte(jetstream.MarkerReasonHeader))) {
		return false
	}
	h, err := nats.DecodeHeadersMsg(s.Hdrs)
	return err == nil && isMarker(h)
}

// headerKVOperation marks a deleted key of a bucket.
const headerKVOperation = "KV-Operation"

func isMarker(h nats.Header) bool {
	return h.Get(headerKVOperation) != "" || h.Get(jetstream.MarkerReasonHeader) != ""
}

// get asks the leader of stream for one message; query is the JSON of the
// request. It repeats itself until ctx ends while there is no leader. found is
// false when there is no such message.
func (b *Bus) get(ctx context.Context, stream, query string) (m stored, found bool, err error) {
	for n := 0; ; n++ {
		m, err := b.getOnce(ctx, stream, query)
		switch c := code(err); {
		case err == nil:
			return m, true, nil
		case c == codeNotFound:
			return stored{}, false, nil
		case c == jetstream.JSErrCodeStreamNotFound:
			return stored{}, false, fmt.Errorf("%w: read %s: %w", ErrNotSetUp, stream, err)
		case hopeless(err) || ctx.Err() != nil || pause(ctx, n) != nil:
			return stored{}, false, fmt.Errorf("bus: read %s: %w", stream, err)
		}
	}
}

func (b *Bus) getOnce(ctx context.Context, stream, query string) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	r, err := b.nc.RequestWithContext(ctx, apiPrefix+"STREAM.MSG.GET."+stream, []byte(query))
	if err != nil {
		return stored{}, err
	}
	return parseStored(r.Data)
}

func parseStored(data []byte) (stored, error) {
	var a struct {
		Error   *jetstream.APIError `json:"error"`
		Message *stored             `json:"message"`
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return stored{}, fmt.Errorf("answer: %w", err)
	}
	if a.Error != nil {
		return stored{}, a.Error
	}
	if a.Message == nil {
		return stored{}, errors.New("answer without a message")
	}
	return *a.Message, nil
}

// lastBySubject is the query for the newest message of a subject, which may
// have wildcards.
func lastBySubject(subject string) string { return `{"last_by_subj":"` + subject + `"}` }

// nextBySubject is the query for the first message of a subject at or after
// seq.
func nextBySubject(seq uint64, subject string) string {
	return fmt.Sprintf(`{"seq":%d,"next_by_subj":%q}`, seq, subject)
}

// lastSeq is the last sequence of a stream, from its leader; 0 for one that
// never held a message.
func (b *Bus) lastSeq(ctx context.Context, stream string) (uint64, error) {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		s, err := b.js.Stream(attempt, stream)
		cancel()
		switch {
		case err == nil:
			return s.CachedInfo().State.LastSeq, nil
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return 0, notSetUp("read "+stream, err)
		case hopeless(err) || ctx.Err() != nil || pause(ctx, n) != nil:
			return 0, fmt.Errorf("bus: read %s: %w", stream, err)
		}
	}
}
