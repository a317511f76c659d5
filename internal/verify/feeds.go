package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// feedIdle is how long a feed may be silent before nobody waits for the rest of it:
// that may have gone by age or been trimmed. Where it is still there the feed stands
// still, as it does while its stream has no leader, and nothing is said about it.
const feedIdle = 5 * time.Second

// sparse remembers when some entries of the journal were stored, so that it can
// be told which steps are younger than an event.
type sparse struct {
	n    int
	seqs []uint64
	at   []time.Time
}

const sparseEvery = 256

func (s *sparse) note(seq uint64, at time.Time) {
	if s.n++; s.n%sparseEvery == 1 {
		s.seqs, s.at = append(s.seqs, seq), append(s.at, at)
	}
}

// from is the first entry noted from which on everything was stored at the
// instant or later.
func (s *sparse) from(at time.Time) uint64 {
	for i := range s.seqs {
		if !s.at[i].Before(at) {
			return s.seqs[i]
		}
	}
	return math.MaxUint64
}

// state is how far a stream reaches.
func (p *pass) state(ctx context.Context, stream string) (first uint64, at time.Time, last uint64, err error) {
	s, err := p.bus.JetStream().Stream(ctx, stream)
	if err != nil {
		return 0, at, 0, fmt.Errorf("verify: %s: %w", stream, err)
	}
	i := s.CachedInfo().State
	return i.FirstSeq, i.FirstTime, i.LastSeq, nil
}

// until returns a context that ends when beat was not called for so long.
func until(ctx context.Context, idle time.Duration) (c context.Context, beat func(), stop func()) {
	c, cancel := context.WithCancel(ctx)
	t := time.AfterFunc(idle, cancel)
	return c, func() { t.Reset(idle) }, func() { t.Stop(); cancel() }
}

// stoodStill notes that a feed has not delivered what its stream holds.
func (p *pass) stoodStill(what string, at, last uint64) {
	p.result.Unchecked = append(p.result.Unchecked, fmt.Sprintf("%s: the feed stood still at %d of %d", what, at, last))
}

// agedOut reports whether a stream holds nothing of what it was given.
func agedOut(first, last uint64) bool { return last > 0 && first > last }

// events compares the public feed with the journal.
func (p *pass) events(ctx context.Context) error {
	first, _, last, err := p.state(ctx, bus.StreamEvents)
	if err != nil || agedOut(first, last) {
		return err
	}
	heard, err := p.hear(ctx, last)
	if err != nil {
		return err
	}
	first, at, end, err := p.state(ctx, bus.StreamEvents)
	if err != nil {
		return err
	}
	from := uint64(0)
	switch {
	case agedOut(first, end):
		return nil
	case heard < last && first <= last:
		p.stoodStill("the events", heard, last)
		return nil
	case first > 1: // what was told before that may have
		from = p.stored.from(at)
	}
	for id := range p.bus.Layout().Partitions {
		if !p.lagging[id] {
			p.auditor.UntoldEvents(id, from)
		}
	}
	return nil
}

// hear reads the events up to a sequence, and returns that of the last one heard.
func (p *pass) hear(ctx context.Context, last uint64) (heard uint64, err error) {
	if last == 0 {
		return 0, nil
	}
	feed, beat, stop := until(ctx, p.idle)
	defer stop()
	for e, err := range p.bus.Events(feed, bus.EventQuery{FromSeq: 1}) {
		if err != nil {
			return heard, fmt.Errorf("verify: events: %w", err)
		}
		beat()
		p.heard(&e)
		p.progress()
		if heard = e.Seq; heard >= last {
			break
		}
	}
	return heard, ctxErr(ctx)
}

// heard takes one event. What an observer tells is of no step.
func (p *pass) heard(e *bus.StoredEvent) {
	var body op.Event
	if err := json.Unmarshal(e.Data, &body); err != nil {
		body = op.Event{} // which names no step
	}
	switch {
	case e.Name == op.EventViolated:
		return
	case body.Seq > p.result.To:
		p.result.Newer++
		return
	}
	p.result.Events++
	p.auditor.CheckEvent(e.Name, e.Target, &body)
}

// intake compares what is left of the intake with what the steps have consumed.
func (p *pass) intake(ctx context.Context) error {
	for id := range p.bus.Layout().Partitions {
		last, err := p.bus.LastIntake(ctx, id)
		if err != nil {
			return fmt.Errorf("verify: intake of partition %d: %w", id, err)
		}
		if last == 0 {
			continue
		}
		taken, err := p.take(ctx, id, last)
		if err != nil {
			return err
		}
		first, found, err := p.firstIntake(ctx, id)
		switch {
		case err != nil:
			return fmt.Errorf("verify: intake of partition %d: %w", id, err)
		case found && taken < last && first <= last:
			p.stoodStill(fmt.Sprintf("the intake of partition %d", id), taken, last)
		case found:
			p.auditor.CheckInvented(id, first)
		}
	}
	return nil
}

// take reads what the intake holds for a partition up to a sequence, and returns
// that of the last message that came.
func (p *pass) take(ctx context.Context, id int, last uint64) (taken uint64, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	feed, err := p.bus.Intake(ctx, id, 0)
	if err != nil {
		return 0, fmt.Errorf("verify: intake of partition %d: %w", id, err)
	}
	for {
		select {
		case m, ok := <-feed.C():
			if !ok {
				return taken, errors.Join(feed.Err(), ctx.Err())
			}
			p.result.Intake++
			p.auditor.CheckIntake(id, m.Seq)
			if taken = m.Seq; taken >= last {
				return taken, nil
			}
		case <-time.After(p.idle): // trimmed meanwhile, or it stands still
			return taken, nil
		}
	}
}

// firstIntake is the first message that the intake holds for a partition now.
func (p *pass) firstIntake(ctx context.Context, id int) (seq uint64, found bool, err error) {
	m, err := p.bus.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+bus.StreamIntake,
		fmt.Appendf(nil, `{"seq":1,"next_by_subj":"ops.intake.%d.>"}`, id))
	if err != nil {
		return 0, false, err
	}
	var a struct {
		Message *struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
		Error *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return 0, false, err
	}
	switch {
	case a.Error != nil && a.Error.Code == 404:
		return 0, false, nil
	case a.Error != nil:
		return 0, false, errors.New(a.Error.Description)
	case a.Message == nil:
		return 0, false, errors.New("the answer has no message")
	}
	return a.Message.Seq, true, nil
}

// AckError is a line of a file of acknowledgements that cannot be used.
type AckError struct {
	Line int
	Why  string
}

// Error says which line it is.
func (e *AckError) Error() string {
	return fmt.Sprintf("acknowledgements, line %d: %s", e.Line, e.Why)
}

// consumed reads on until the steps have consumed what the intake holds now, which
// is where an acknowledged submission may still wait.
func (p *pass) consumed(ctx context.Context) error {
	if p.Acks == nil {
		return nil
	}
	ends := map[int]uint64{}
	for id := range p.bus.Layout().Partitions {
		last, err := p.bus.LastIntake(ctx, id)
		if err != nil {
			return fmt.Errorf("verify: intake of partition %d: %w", id, err)
		}
		ends[id] = last
	}
	return p.wait(ctx, func(context.Context) (bool, error) {
		p.unread = false
		for id, last := range ends {
			p.unread = p.unread || p.tips[id].cursor < last
		}
		return !p.unread, nil
	}, p.read)
}

// acks compares what clients were told with the history.
func (p *pass) acks(context.Context) error {
	switch {
	case p.Acks == nil:
		return nil
	case p.unread:
		p.result.Unchecked = append(p.result.Unchecked, "the acknowledgements: the intake is not consumed, and what was acknowledged may be in it")
		return nil
	}
	return ReadAcks(p.Acks, func(c *audit.Ack) {
		p.result.Acks++
		p.auditor.CheckAck(c)
	})
}

// ReadAcks reads a file of acknowledgements: one JSON object a line, see
// [audit.Ack]. Empty lines are left out. The error is an [*AckError] where a line
// cannot be used.
func ReadAcks(r io.Reader, f func(*audit.Ack)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var c audit.Ack
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil {
			return &AckError{n, err.Error()}
		}
		if why := c.Check(); why != "" {
			return &AckError{n, why}
		}
		f(&c)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("verify: acknowledgements: %w", err)
	}
	return nil
}
