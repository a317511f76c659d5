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

// feedIdle is how long the rest of a feed may take to come before it is taken for
// its end: the last message may have gone by age, or be none of ours.
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

// until returns a context that ends when beat was not called for [feedIdle].
func until(ctx context.Context) (c context.Context, beat func(), stop func()) {
	c, cancel := context.WithCancel(ctx)
	t := time.AfterFunc(feedIdle, cancel)
	return c, func() { t.Reset(feedIdle) }, func() { t.Stop(); cancel() }
}

// events compares the public feed with the journal.
func (p *pass) events(ctx context.Context) error {
	_, _, last, err := p.state(ctx, bus.StreamEvents)
	if err != nil {
		return err
	}
	if err := p.hear(ctx, last); err != nil {
		return err
	}
	first, at, _, err := p.state(ctx, bus.StreamEvents)
	if err != nil {
		return err
	}
	from := uint64(0)
	if first > 1 { // what was told before that may have aged out
		from = p.stored.from(at)
	}
	for id := range p.bus.Layout().Partitions {
		if !p.lagging[id] {
			p.auditor.UntoldEvents(id, from)
		}
	}
	return nil
}

func (p *pass) hear(ctx context.Context, last uint64) error {
	if last == 0 {
		return nil
	}
	feed, beat, stop := until(ctx)
	defer stop()
	for e, err := range p.bus.Events(feed, bus.EventQuery{FromSeq: 1}) {
		if err != nil {
			return fmt.Errorf("verify: events: %w", err)
		}
		beat()
		p.heard(&e)
		p.progress()
		if e.Seq >= last {
			break
		}
	}
	return ctxErr(ctx)
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
		if err := p.take(ctx, id, last); err != nil {
			return err
		}
		first, found, err := p.firstIntake(ctx, id)
		if err != nil {
			return fmt.Errorf("verify: intake of partition %d: %w", id, err)
		}
		if found {
			p.auditor.CheckInvented(id, first)
		}
	}
	return nil
}

func (p *pass) take(ctx context.Context, id int, last uint64) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	feed, err := p.bus.Intake(ctx, id, 0)
	if err != nil {
		return fmt.Errorf("verify: intake of partition %d: %w", id, err)
	}
	for {
		select {
		case m, ok := <-feed.C():
			if !ok {
				return errors.Join(feed.Err(), ctx.Err())
			}
			p.result.Intake++
			p.auditor.CheckIntake(id, m.Seq)
			if m.Seq >= last {
				return nil
			}
		case <-time.After(feedIdle): // trimmed meanwhile
			return nil
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

// acks compares what clients were told with the history. An acknowledged
// submission may still wait in the intake, so that has to be consumed first.
func (p *pass) acks(ctx context.Context) error {
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
	behind := func(context.Context) (bool, error) {
		for id, last := range ends {
			if p.tips[id].cursor < last {
				return false, nil
			}
		}
		return true, nil
	}
	if err := p.wait(ctx, behind, p.read); err != nil {
		return err
	}
	if ok, _ := behind(ctx); !ok {
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
