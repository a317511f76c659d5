package submitter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const counter = `"params":{"field_name":"counter","new_value":1}`

func TestSubmit(t *testing.T) {
	b := connect(t)
	s := New(Config{Bus: b})
	for _, c := range []struct {
		name, body, target string
		ids                []string // "" for one that the submitter gives
	}{
		{"named", `{"op_id":"a","op_type":"modify_field",` + counter + `}`, "user-1", []string{"a"}},
		{"target in the body", `{"op_id":"b","target_entity_id":"user-2","op_type":"modify_field",` + counter + `}`, "", []string{"b"}},
		{"unnamed", `{"op_type":"modify_field","priority":"high",` + counter + `}`, "user-1", []string{""}},
		{"array", `[{"op_id":"c","op_type":"version_entity"},{"op_type":"version_entity"}]`, "user-3", []string{"c", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			acc, err := s.Do(t.Context(), Request{Body: []byte(c.body), Target: c.target, Trace: "00-trace-" + c.name})
			if err != nil {
				t.Fatal(err)
			}
			if acc.Type != op.AcceptedType || acc.Stream != bus.StreamIntake || len(acc.OpIDs) != len(c.ids) {
				t.Fatalf("%+v", acc)
			}
			var got []stored
			for _, o := range intake(t, b) {
				if o.seq == acc.Seq {
					got = append(got, o)
				}
			}
			if len(got) != len(c.ids) {
				t.Fatalf("%d operations at %d", len(got), acc.Seq)
			}
			for i, want := range c.ids {
				id := acc.OpIDs[i]
				if want == "" {
					if v, err := uuid.Parse(id); err != nil || v.Version() != 7 {
						t.Errorf("id %q is not a UUIDv7", id)
					}
				} else if id != want {
					t.Errorf("id %s, want %s", id, want)
				}
				if got[i].ID != id || got[i].trace != "00-trace-"+c.name {
					t.Errorf("stored %s with trace %q", got[i].ID, got[i].trace)
				}
			}
		})
	}
}

// Whatever was published under an op_id as its message id, a submission that is
// acknowledged is stored: also an invalid message, one on another subject, and
// the very same submission, which is for the resolver to recognise.
func TestAcknowledgedIsStored(t *testing.T) {
	b := connect(t)
	s := New(Config{Bus: b})
	for _, m := range [][2]string{{bus.SubmitSubject("user-1"), "not an operation"}, {bus.SubmitSubject("user-2"), `{"op_id":"b","op_type":"version_entity"}`}} {
		id := "a"
		if m[1][0] == '{' {
			id = "b"
		}
		if _, err := b.Publish(t.Context(), m[0], []byte(m[1]), id, nil); err != nil {
			t.Fatal(err)
		}
	}
	before := messages(t, b)
	seen := map[uint64]bool{}
	check := func(acc op.Accepted, err error) {
		t.Helper()
		if err != nil || acc.Seq <= before || seen[acc.Seq] {
			t.Errorf("%+v, %v", acc, err)
		}
		seen[acc.Seq] = true
	}
	for _, id := range []string{"a", "b", "a"} {
		check(s.Submit(t.Context(), []byte(`{"op_id":"`+id+`","op_type":"version_entity"}`), "user-1"))
	}
	check(s.Cancel(t.Context(), "user-1", "a"))
	check(s.Cancel(t.Context(), "user-1", "a"))
	p := s.NewPacker(PackOptions{})
	if _, err := p.Add(t.Context(), modify("b", "user-1")); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := messages(t, b) - before; n != 6 {
		t.Errorf("%d messages are stored of 6 that were acknowledged", n)
	}
}

// fake is a submitter whose publishes end as told.
func fake(send func(ctx context.Context, subject string, body []byte, msgID string) error) *Submitter {
	s := newFake()
	s.send = func(ctx context.Context, subject string, body []byte, msgID string, _ nats.Header) (bus.Ack, error) {
		return bus.Ack{Stream: bus.StreamIntake, Seq: 1}, send(ctx, subject, body, msgID)
	}
	return s
}

func newFake() *Submitter {
	s := New(Config{Bus: &bus.Bus{}})
	s.partitions = testPartitions
	s.follow = func(context.Context) error { return nil }
	s.book.fetch = func(context.Context) ([]byte, uint64, error) { return nil, 0, nil }
	return s
}

func TestUnknownOutcomeIsSettledByTheSameMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		s := fake(func(_ context.Context, subject string, body []byte, msgID string) error {
			sent = append(sent, subject+" "+msgID+" "+string(body))
			if len(sent) < 4 {
				return fmt.Errorf("%w: timeout", bus.ErrUnknownOutcome)
			}
			return nil
		})
		acc, err := s.Submit(t.Context(), []byte(`{"op_type":"version_entity"}`), "user-1")
		if err != nil || len(sent) != 4 {
			t.Fatalf("%v after %d tries", err, len(sent))
		}
		for _, m := range sent {
			if m != sent[0] || !strings.HasPrefix(m, `ops.submit.user-1  {`) || !strings.Contains(m, `"op_id":"`+acc.OpIDs[0]+`"`) {
				t.Errorf("sent %q", m)
			}
		}
		sent = sent[:0]
		if _, err := s.Cancel(t.Context(), "user-1", "a"); err != nil || len(sent) != 4 {
			t.Fatalf("a cancellation: %v after %d tries", err, len(sent))
		}
		id := strings.Fields(sent[0])[1]
		for _, m := range sent {
			if m != sent[0] || !strings.HasPrefix(m, "ops.cancel.user-1 "+id+" {") {
				t.Errorf("sent %q", m)
			}
		}
		if _, err := s.Cancel(t.Context(), "user-1", "a"); err != nil || strings.Contains(sent[4], id) {
			t.Errorf("another call has the same message id: %v", err)
		}
	})
}

func TestWhatIsToldWhenThereIsNoAnswer(t *testing.T) {
	refused := errors.New("maximum payload")
	for name, c := range map[string]struct {
		err, wraps error
		code       string
		takes      time.Duration
	}{
		"full":    {fmt.Errorf("%w: 10077", bus.ErrIntakeFull), bus.ErrIntakeFull, op.CodeOverloaded, 0},
		"unknown": {fmt.Errorf("%w: timeout", bus.ErrUnknownOutcome), context.DeadlineExceeded, op.CodeUnavailable, time.Minute},
		"closed":  {fmt.Errorf("%w: %w", bus.ErrUnknownOutcome, nats.ErrConnectionClosed), nats.ErrConnectionClosed, op.CodeUnavailable, 0},
		"refused": {refused, refused, op.CodeUnavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := fake(func(context.Context, string, []byte, string) error { return c.err })
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				_, err := s.Submit(ctx, []byte(`{"op_type":"version_entity"}`), "user-1")
				if code(err) != c.code || !errors.Is(err, c.wraps) {
					t.Errorf("%v", err)
				}
				if took := time.Since(began); took != c.takes {
					t.Errorf("after %s", took)
				}
			})
		})
	}
}

func TestDefaultsWrittenOutMustFit(t *testing.T) {
	s := fake(func(context.Context, string, []byte, string) error { return nil })
	line := `{"op_type":"modify_field","params":{"field_name":"x","new_value":"` + strings.Repeat("v", 4000) + `"}}`
	body := "[" + strings.Repeat(line+",", 7) + line
	body += "]"
	if len(body) > op.MaxBody {
		t.Fatal("the body is too large to begin with")
	}
	if _, err := s.Submit(t.Context(), []byte(body), "user-1"); code(err) != op.CodeTooLarge {
		t.Errorf("%v", err)
	}
	// With ids of the client's, nothing is added to the body.
	for i := range 8 {
		body = strings.Replace(body, `{"op_type"`, fmt.Sprintf(`{"op_id":"%d","op_type"`, i), 1)
	}
	if _, err := s.Submit(t.Context(), []byte(body), "user-1"); err != nil {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	b := connect(t)
	s := New(Config{Bus: b})
	acc, err := s.Cancel(t.Context(), "user-1", "a")
	if err != nil || acc.Seq == 0 {
		t.Fatal(acc, err)
	}
	m, err := b.JetStream().Stream(t.Context(), bus.StreamIntake)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.GetMsg(t.Context(), acc.Seq)
	if err != nil || !strings.HasSuffix(got.Subject, ".cancel.user-1") || string(got.Data) != `{"op_id":"a"}` {
		t.Errorf("%+v, %v", got, err)
	}
	for _, c := range [][2]string{{"user.1", "a"}, {"user-1", "a b"}} {
		if _, err := s.Cancel(t.Context(), c[0], c[1]); code(err) != op.CodeBadID {
			t.Errorf("%v: %v", c, err)
		}
	}
}
