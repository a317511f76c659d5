package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of this package. Each may be wrapped with more detail.
var (
	// ErrNotSetUp: the server has no Hierarchy; run [Setup] first.
	ErrNotSetUp = errors.New("bus: not set up on this server")
	// ErrNoCluster: copies of a stream were asked for of a server that is alone.
	ErrNoCluster = errors.New("bus: the server is in no cluster")
	// ErrIntakeFull: the intake is at its limits and refused the message.
	// Nothing is stored; try again later.
	ErrIntakeFull = errors.New("bus: the intake is full")
	// ErrUnknownOutcome: no answer came. The message may or may not be stored;
	// publish it again under the same id.
	ErrUnknownOutcome = errors.New("bus: outcome unknown")
	// ErrNotFound: the journal has no entry at that sequence.
	ErrNotFound = errors.New("bus: no such entry")
	// ErrGap: a feed cannot continue without skipping messages.
	ErrGap = errors.New("bus: messages are missing")
)

// Headers that this package reads or writes.
const (
	// HeaderStepID names the step in a journal entry; it settles an unknown
	// outcome.
	HeaderStepID = "Ops-Step-Id"
	// HeaderCausedBy names the operation that caused a follow-up.
	HeaderCausedBy = "Ops-Caused-By"
	// HeaderOrder is the journal sequence that a view's value reflects.
	HeaderOrder = "Ops-Order"
)

// MaxIntakeBody bounds the body of one intake message in bytes; the rest up to
// the server's default limit of 1 MiB is for headers.
const MaxIntakeBody = 1<<20 - 16<<10

// attemptTimeout bounds one request to the server. It is above what a busy disk
// takes and below an election, so a lost request is repeated in time to meet the
// next leader.
const attemptTimeout = 2 * time.Second

// Bus is a connection to a server that has been set up. Its methods may be
// called from any goroutine.
type Bus struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	layout  Layout
	intake  jetstream.Stream
	objects jetstream.ObjectStore
	control []string // by partition: a token that leads there
}

// openTimeout bounds [Open] when its context has no deadline: an election and
// some.
const openTimeout = 15 * time.Second

// Open reads the layout from the server. The error wraps [ErrNotSetUp] when
// there is none. While nobody answers it repeats itself until ctx ends, or for
// 15 seconds. The connection stays the caller's and must outlive the Bus.
func Open(ctx context.Context, nc *nats.Conn) (*Bus, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("bus: open: %w", err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openTimeout)
		defer cancel()
	}
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		b, err := openOnce(attempt, nc, js)
		cancel()
		if err == nil || errors.Is(err, ErrNotSetUp) || hopeless(err) || ctx.Err() != nil || pause(ctx, n) != nil {
			return b, err
		}
	}
}

func openOnce(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) (*Bus, error) {
	b := &Bus{nc: nc, js: js}
	var err error
	if b.intake, err = js.Stream(ctx, StreamIntake); err != nil {
		return nil, notSetUp("open", err)
	}
	if b.layout, err = layoutOf(b.intake.CachedInfo().Config); err != nil {
		return nil, err
	}
	b.control = controlTokens(b.layout.Partitions)
	if b.objects, err = js.ObjectStore(ctx, bucketSnapshots); err != nil {
		return nil, notSetUp("open", err)
	}
	return b, nil
}

// notSetUp adds ErrNotSetUp where err says that a stream does not exist.
func notSetUp(doing string, err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		return fmt.Errorf("%w: %s: %w", ErrNotSetUp, doing, err)
	}
	return fmt.Errorf("bus: %s: %w", doing, err)
}

// Layout is how the server was set up.
func (b *Bus) Layout() Layout { return b.layout }

// Conn is the connection given to [Open].
func (b *Bus) Conn() *nats.Conn { return b.nc }

// JetStream is the API on the same connection, for what this package does not
// cover: health checks, benchmarks, tests.
func (b *Bus) JetStream() jetstream.JetStream { return b.js }

// Ack is what the server stored.
type Ack struct {
	Stream    string `json:"stream"`
	Seq       uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"` // the message id was seen within the window; Seq is the first one's
}

// request publishes m once and waits for the stream's acknowledgement, at most
// attemptTimeout. A refusal is a [*jetstream.APIError]; every other error leaves
// the outcome open.
func (b *Bus) request(ctx context.Context, m *nats.Msg) (Ack, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	r, err := b.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return Ack{}, err
	}
	return parseAck(r.Data)
}

func parseAck(data []byte) (Ack, error) {
	var a struct {
		Ack
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return Ack{}, fmt.Errorf("acknowledgement: %w", err)
	}
	if a.Error != nil {
		return Ack{}, a.Error
	}
	if a.Stream == "" {
		return Ack{}, errors.New("acknowledgement without a stream")
	}
	return a.Ack, nil
}

// Codes of the server that decide what happens next.
const (
	codeWrongSequence   jetstream.ErrorCode = 10071 // the subject's last sequence is another one: really stale
	codeBusy            jetstream.ErrorCode = 10164 // another write to the subject is in flight: try again
	codeStoreFailed     jetstream.ErrorCode = 10077 // among others: the stream is full
	codeNoResources     jetstream.ErrorCode = 10023
	codeNoStorage       jetstream.ErrorCode = 10047
	codeNotFound        jetstream.ErrorCode = 10037
	codeTooLarge        jetstream.ErrorCode = 10054
	codeTooManyInFlight jetstream.ErrorCode = 10167 // R3: more proposals than the stream takes
	codeNoPeers         jetstream.ErrorCode = 10005 // a cluster that is short of servers for the moment
	codeDuplicateFlight jetstream.ErrorCode = 10158 // the same message id is being stored
	codeNoCluster       jetstream.ErrorCode = 10074 // several copies, of a server that is alone
)

// code is the server's code in err's chain, or 0.
func code(err error) jetstream.ErrorCode {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return e.ErrorCode
	}
	return 0
}

// hopeless reports whether trying again cannot change err: the server refused
// the request as such, or the connection is closed for good.
func hopeless(err error) bool {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return e.Code >= 400 && e.Code < 500 && e.Code != 408 && e.Code != 409 && e.Code != 429 &&
			e.ErrorCode != codeBusy && e.ErrorCode != codeNoPeers
	}
	return errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrMaxPayload) ||
		errors.Is(err, nats.ErrBadSubject) || errors.Is(err, nats.ErrHeadersNotSupported)
}

// pause waits before the n-th repetition, 2 ms doubling up to 250 ms, or until
// ctx ends, which it reports as an error.
func pause(ctx context.Context, n int) error {
	return Sleep(ctx, min(2*time.Millisecond<<min(n, 10), 250*time.Millisecond))
}

// Sleep waits for d, or until ctx ends, which it reports as an error: the pause
// between two questions to a server.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
