package submitter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const shop = `{
  "types": {"charge": {"schema": {"type": "object", "required": ["amount"], "additionalProperties": false,
    "properties": {"amount": {"type": "integer", "minimum": 1}}}, "max_priority": 5}},
  "submitters": {"nightly": {"max": 2}},
  "priority_out_of_range": "refuse",
  "paused": {"types": ["delete_entity"], "targets": ["frozen-*"]}
}`

func putPolicy(t *testing.T, b *bus.Bus, text string) {
	t.Helper()
	if _, err := b.PutPolicy(t.Context(), []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// What a policy says is told at the edge, field by field, and nothing of it is
// stored. The submitter does not follow the policy: it reads it when it is asked.
func TestThePolicyAtTheEdge(t *testing.T) {
	b := connect(t)
	putPolicy(t, b, shop)
	s := New(Config{Bus: b})
	for _, c := range []struct{ body, code, field, says string }{
		{`{"op_type":"charge","params":{"amount":3}}`, "", "", ""},
		{`{"op_type":"charge","params":{"amount":0}}`, op.CodeBadParams, "params.amount", "1"},
		{`{"op_type":"charge","params":{"amount":"3"}}`, op.CodeBadParams, "params.amount", "integer"},
		{`{"op_type":"charge"}`, op.CodeBadParams, "params.amount", ""},
		{`{"op_type":"charge","params":{"amount":3,"currency":"EUR"}}`, op.CodeBadParams, "params.currency", ""},
		{`[{"op_type":"charge","params":{"amount":3}},{"op_type":"charge","params":{"amount":-3}}]`, op.CodeBadParams, "[1].params.amount", ""},
		{`{"op_type":"charge","params":{"amount":3},"priority":8}`, op.CodeNotAllowed, "priority", "the nearest that is, is 5"},
		{`{"op_type":"version_entity","submitter":"nightly","priority":"HIGH"}`, op.CodeNotAllowed, "priority", `"nightly"`},
		{`{"op_type":"version_entity","submitter":"nightly","priority":"LOW"}`, "", "", ""},
		{`{"op_type":"refund"}`, op.CodeUnknownType, "op_type", "refund"},
		{`{"op_type":"delete_entity"}`, op.CodePaused, "", "delete_entity"},
		{`{"op_type":"version_entity","target_entity_id":"frozen-7"}`, op.CodePaused, "", "frozen-7"},
	} {
		target := "user-1"
		if strings.Contains(c.body, "frozen") {
			target = ""
		}
		before := messages(t, b)
		_, err := s.Submit(t.Context(), []byte(c.body), target)
		e := op.AsError(err)
		if c.code == "" {
			if err != nil {
				t.Errorf("%s: %v", c.body, err)
			}
			continue
		}
		if e == nil || e.Code != c.code || e.Field != c.field || !strings.Contains(e.Message, c.says) || e.Hint == "" {
			t.Errorf("%s: %+v", c.body, e)
		}
		if messages(t, b) != before {
			t.Errorf("%s: something is stored", c.body)
		}
	}
}

// A policy that is put into force just before a submission counts for it.
func TestANewTypeIsKnownAtOnce(t *testing.T) {
	b := connect(t)
	s := New(Config{Bus: b})
	if _, err := s.Submit(t.Context(), []byte(`{"op_type":"charge"}`), "user-1"); code(err) != op.CodeUnknownType {
		t.Fatal(err)
	}
	putPolicy(t, b, shop)
	s.book.mu.Lock()
	s.book.read = time.Now().Add(-freshness) // the first refusal has just looked
	s.book.mu.Unlock()
	if _, err := s.Submit(t.Context(), []byte(`{"op_type":"charge","params":{"amount":1}}`), "user-1"); err != nil {
		t.Error(err)
	}
}

func TestFollowingThePolicy(t *testing.T) {
	b := connect(t)
	s := New(Config{Bus: b})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := s.Follow(ctx); err != nil {
		t.Fatal(err)
	}
	s.book.fetch = nil // whatever it learns, it hears
	putPolicy(t, b, `{"staging_window":"20ms"}`)
	rev, err := b.PutPolicy(t.Context(), []byte(`{"types": {"charge": {"schema": {"type": "array"}}}}`)) // refused
	if err != nil {
		t.Fatal(err)
	}
	putPolicy(t, b, `{"staging_window":"30ms"}`)
	deadline, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	for s.book.now.Load().policy.Revision <= rev {
		if !wait(deadline, time.Millisecond) {
			t.Fatal("the policy was not heard of")
		}
	}
	if got := s.book.now.Load().policy.StagingWindow; got != 30*time.Millisecond {
		t.Errorf("%s", got)
	}
}

// An older revision that arrives late does not replace a newer one, and one that
// is not valid replaces none.
func TestRevisionsOnlyGrow(t *testing.T) {
	s := newFake()
	for _, p := range []struct {
		text string
		rev  uint64
		want uint64
	}{{`{}`, 3, 3}, {`{}`, 2, 3}, {`{"no":1}`, 4, 3}, {`{"types":{"x":{"schema":{"$ref":"http://a"}}}}`, 5, 3}, {`{}`, 6, 6}} {
		s.book.put([]byte(p.text), p.rev)
		if got := s.book.now.Load().policy.Revision; got != p.want {
			t.Errorf("after %s at %d: %d", p.text, p.rev, got)
		}
	}
}

func TestThePolicyCannotBeRead(t *testing.T) {
	s := fake(func(context.Context, string, []byte, string) error { t.Error("published"); return nil })
	broken := errors.New("no leader")
	s.book.fetch = func(context.Context) ([]byte, uint64, error) { return nil, 0, broken }
	_, err := s.Submit(t.Context(), []byte(`{"op_type":"version_entity"}`), "user-1")
	if code(err) != op.CodeUnavailable || !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func TestNewsOfLoad(t *testing.T) {
	partition := bus.PartitionOf("user-1", testPartitions)
	for name, c := range map[string]struct {
		load    bus.Load
		age     time.Duration
		refused string
	}{
		"nothing known":           {bus.Load{Partition: partition + 1, Open: 10, MaxOpen: 10}, 0, ""},
		"half empty":              {bus.Load{Partition: partition, Open: 49, MaxOpen: 100}, 0, ""},
		"half full":               {bus.Load{Partition: partition, Open: 50, MaxOpen: 100, RetryAfterMS: 300}, 0, "300"},
		"half full a second ago":  {bus.Load{Partition: partition, Open: 50, MaxOpen: 100}, newsAge + time.Millisecond, ""},
		"nobody says when":        {bus.Load{Partition: partition, Open: 100, MaxOpen: 100}, 0, "1000"},
		"target with room":        {bus.Load{Partition: partition, MaxOpen: 100, MaxStaged: 10, Targets: map[string]int{"user-1": 8}}, 0, ""},
		"target without":          {bus.Load{Partition: partition, MaxOpen: 100, MaxStaged: 10, Targets: map[string]int{"user-1": 9}, RetryAfterMS: 20}, 0, "20"},
		"another target without":  {bus.Load{Partition: partition, MaxOpen: 100, MaxStaged: 10, Targets: map[string]int{"user-2": 9}}, 0, ""},
		"a limit that is unknown": {bus.Load{Partition: partition, Open: 100, Targets: map[string]int{"user-1": 9}}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				s := fake(func(context.Context, string, []byte, string) error { sent++; return nil })
				s.news.hear(c.load)
				time.Sleep(c.age)
				_, err := s.Submit(t.Context(), []byte(`{"op_type":"version_entity"}`), "user-1")
				if c.refused == "" {
					if err != nil || sent != 1 {
						t.Errorf("%v, %d sent", err, sent)
					}
					return
				}
				e := op.AsError(err)
				if e == nil || e.Code != op.CodeOverloaded || fmt.Sprint(e.RetryAfterMS) != c.refused || e.Hint == "" || sent != 0 {
					t.Errorf("%+v, %d sent", e, sent)
				}
			})
		})
	}
}

// A bulk load waits while there is no room, shows it, and goes on.
func TestALoadWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l := newIntakeLog()
		s := fake(l.publish)
		go func() { // full for three seconds, told five times a second
			for range 15 {
				for p := range testPartitions {
					s.news.hear(bus.Load{Partition: p, Open: 9, MaxOpen: 10, RetryAfterMS: 100})
				}
				time.Sleep(200 * time.Millisecond)
			}
		}()
		synctest.Wait()
		full := 0
		sum, err := s.ReadNDJSON(t.Context(), strings.NewReader(line("a")+"\n"+line("b")), NDJSONOptions{
			Pack: PackOptions{Progress: func(p Progress) {
				if p.Full {
					full++
				}
			}},
		})
		if err != nil || sum.Acked != 2 || sum.Full || full == 0 {
			t.Errorf("%+v, %v, told %d times", sum, err, full)
		}
		if took := time.Since(began); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("after %s", took)
		}
	})
}
