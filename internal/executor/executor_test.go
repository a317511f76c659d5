package executor

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func change(t *testing.T, r op.Result) entity.Change {
	t.Helper()
	if r.Failure != nil {
		t.Fatalf("failed: %+v", r.Failure)
	}
	var c entity.Change
	if err := json.Unmarshal(r.Change, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBuiltinTypeIsComputedFromTheSnapshot(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, accept)
	start(t, Config{Bus: b})
	offer(t, b, work("a"))
	r := take(t, got)
	c := change(t, r)
	if r.OpID != "a" || r.Attempt != 1 || r.Target != "user-1" || r.Executor != "test" || r.Type != op.ResultType {
		t.Errorf("%+v", r)
	}
	if c.Base != 7 || c.From != 2 || string(c.Set["counter"]) != "1" {
		t.Errorf("%+v", c)
	}
	empty(t, b)
}

func TestLoanReadsTheSource(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, accept)
	start(t, Config{Bus: b})
	source := entity.Entity{ID: "user-2", Version: 4, Revision: 9, RootID: "user-2", Fields: map[string]json.RawMessage{"name": json.RawMessage(`"Ada"`)}}
	write(t, b, bus.EntityMsg("user-2", snapshot(source)))
	w := work("a")
	w.Operation.Type, w.Operation.Source = op.TypeBorrow, "user-2"
	w.Operation.Params = json.RawMessage(`{"source_field":"name","target_field":"alias"}`)
	offer(t, b, w)
	c := change(t, take(t, got))
	if src := c.Source["alias"]; string(c.Set["alias"]) != `"Ada"` || src == nil || src.EntityID != "user-2" || src.Revision != 9 {
		t.Errorf("%+v", c)
	}
}

func TestRepeatsUntilAnOwnerAnswers(t *testing.T) {
	b := real(t)
	r := start(t, Config{Bus: b})
	offer(t, b, work("a"))
	eventually(t, "a report without an owner is repeated", func() bool { return r.stats.Repeats.Load() > 1 })
	if n := left(t, b); n != 1 {
		t.Errorf("%d items are left: the work was acknowledged before its report was answered", n)
	}
	got := owner(t, b, 1, accept)
	change(t, take(t, got))
	empty(t, b)
	if r.stats.Accepted.Load() != 1 {
		t.Errorf("%+v", r.stats.Read())
	}
}

func TestRefusedAttemptIsDoneWith(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, func(op.Result) *op.ResultAck { return &op.ResultAck{Why: "superseded"} })
	r := start(t, Config{Bus: b})
	offer(t, b, work("a"))
	take(t, got)
	empty(t, b)
	if c := r.stats.Read(); c.Refused != 1 || c.Accepted != 0 || c.Repeats != 0 {
		t.Errorf("%+v", c)
	}
}

// An owner that cannot read a report will not be able to next time.
func TestUnreadableReportIsNotRepeated(t *testing.T) {
	b := real(t)
	stop, err := b.Results(1, func(_ []byte, reply func([]byte)) {
		body, _ := op.Marshal(op.Errorf(op.CodeBadJSON, "", "no"))
		reply(body)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	r := start(t, Config{Bus: b})
	offer(t, b, work("a"))
	empty(t, b)
	if c := r.stats.Read(); c.Refused != 1 || c.Repeats != 0 {
		t.Errorf("%+v", c)
	}
}

func TestAnswersAboutSomethingElseDoNotCount(t *testing.T) {
	b := real(t)
	answers := []string{
		`nonsense`, `{}`, `{"type":"ops.v1.result_ack","op_id":"b","attempt":1,"accepted":true}`,
		`{"type":"ops.v1.result_ack","op_id":"a","attempt":2,"accepted":true}`, `{"type":"ops.v1.result_ack","op_id":"a","attempt":1,"accepted":true}`,
	}
	n := 0
	stop, err := b.Results(1, func(_ []byte, reply func([]byte)) {
		reply([]byte(answers[n]))
		n++
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	r := start(t, Config{Bus: b})
	offer(t, b, work("a"))
	empty(t, b)
	if c := r.stats.Read(); c.Repeats != 4 || c.Accepted != 1 {
		t.Errorf("%+v", c)
	}
}

func TestWhatAHandlerDoesBecomesTheResult(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, accept)
	var h Handler
	start(t, Config{Bus: b, Handlers: map[string]Handler{
		"greet": func(ctx context.Context, task *Task) (*entity.Change, error) { return h(ctx, task) },
	}})
	set := map[string]json.RawMessage{"x": json.RawMessage("1")}
	five := int64(5)
	cases := []struct {
		name    string
		h       Handler
		edit    func(*op.Work)
		failure *op.Failure // code, terminal, reason; message by prefix
		kind    entity.Kind
	}{
		{name: "change", kind: entity.Modified, h: func(_ context.Context, k *Task) (*entity.Change, error) {
			if k.Entity.Revision != 7 || k.Attempt != 1 || k.Key() != "change" {
				t.Errorf("task: %+v", k)
			}
			return &entity.Change{Kind: entity.Modified, Set: set}, nil
		}},
		{name: "nothing", kind: entity.Noted, h: func(context.Context, *Task) (*entity.Change, error) { return nil, nil }},
		{name: "creation", kind: entity.Created, edit: func(w *op.Work) { w.Entity = nil }, h: func(_ context.Context, k *Task) (*entity.Change, error) {
			if k.Entity != nil {
				t.Errorf("there is an entity: %+v", k.Entity)
			}
			return &entity.Change{Kind: entity.Created, Set: set}, nil
		}},
		{name: "error", failure: &op.Failure{Message: "no luck"}, h: func(context.Context, *Task) (*entity.Change, error) {
			return nil, errors.New("no luck")
		}},
		{name: "terminal", failure: &op.Failure{Code: "gone", Message: "never", Terminal: true}, h: func(context.Context, *Task) (*entity.Change, error) {
			return nil, &op.Failure{Code: "gone", Message: "never", Terminal: true}
		}},
		{name: "panic", failure: &op.Failure{Code: CodePanic, Message: "the handler panicked: boom"}, h: func(context.Context, *Task) (*entity.Change, error) {
			panic("boom")
		}},
		{name: "misfit", failure: &op.Failure{Code: CodeBadChange, Terminal: true}, h: func(context.Context, *Task) (*entity.Change, error) {
			return &entity.Change{Kind: entity.Created, Set: set}, nil
		}},
		{name: "not-json", failure: &op.Failure{Code: CodeBadChange, Terminal: true}, h: func(context.Context, *Task) (*entity.Change, error) {
			return &entity.Change{Kind: entity.Modified, Set: map[string]json.RawMessage{"x": json.RawMessage("{")}}, nil
		}},
		{
			name: "stale", edit: func(w *op.Work) { w.Operation.ExpectedVersion = &five },
			failure: &op.Failure{Code: entity.FailStale, Terminal: true, Reason: op.StaleVersion},
			h: func(context.Context, *Task) (*entity.Change, error) {
				t.Error("a stale operation ran")
				return nil, nil
			},
		},
		{name: "no-handler", edit: func(w *op.Work) { w.Operation.Type = "unheard" }, failure: &op.Failure{Code: CodeNoHandler}},
		{name: "snapshot", edit: func(w *op.Work) { w.Entity = json.RawMessage(`"text"`) }, failure: &op.Failure{Code: CodeSnapshot}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h = c.h
			w := custom(c.name)
			if c.edit != nil {
				c.edit(&w)
			}
			offer(t, b, w)
			r := take(t, got)
			if r.OpID != c.name {
				t.Fatalf("result of %s", r.OpID)
			}
			if c.failure == nil {
				if k := change(t, r).Kind; k != c.kind {
					t.Errorf("kind %s", k)
				}
				return
			}
			f := r.Failure
			if f == nil || f.Code != c.failure.Code || f.Terminal != c.failure.Terminal || f.Reason != c.failure.Reason ||
				!strings.HasPrefix(f.Message, c.failure.Message) || len(r.Change) > 0 {
				t.Errorf("got %+v with change %s, want %+v", f, r.Change, c.failure)
			}
		})
	}
	empty(t, b)
}

func TestGarbageIsDropped(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, accept)
	r := start(t, Config{Bus: b})
	bad := work("a")
	bad.Attempt = 0
	body, _ := op.Marshal(bad)
	for _, garbage := range []string{"", "{", "[]", `{"type":"ops.v1.event"}`, `{"type":"ops.v1.work","attempt":1}`, string(body)} {
		offerRaw(t, b, bus.WorkSubject(op.DefaultPool, "x", 1, "user-1"), []byte(garbage))
	}
	offer(t, b, work("good"))
	if r := take(t, got); r.OpID != "good" {
		t.Errorf("%+v", r)
	}
	empty(t, b)
	if n := r.stats.Garbage.Load(); n != 6 {
		t.Errorf("%d dropped", n)
	}
}

func TestBefore(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, accept)
	start(t, Config{Bus: b, Before: func(w op.Work) error {
		if w.Operation.ID == "a" {
			return errors.New("injected")
		}
		return nil
	}})
	offer(t, b, work("a"))
	if f := take(t, got).Failure; f == nil || f.Message != "injected" || f.Terminal {
		t.Errorf("%+v", f)
	}
	offer(t, b, work("b"))
	change(t, take(t, got))
}

// Handlers are bounded, and work that none is free for is not taken. Reports that
// wait for their answer do not keep handlers from starting.
func TestConcurrencyBoundsHandlersNotReports(t *testing.T) {
	b := real(t)
	const bound = 3
	release := make(chan struct{})
	var heard atomic.Int32
	owner(t, b, 1, func(op.Result) *op.ResultAck { heard.Add(1); return nil }) // never answers
	var most, now atomic.Int32
	r := start(t, Config{Bus: b, Concurrency: bound, DrainTimeout: 50 * time.Millisecond, Handlers: map[string]Handler{
		"greet": func(context.Context, *Task) (*entity.Change, error) {
			if v := now.Add(1); v > most.Load() {
				most.Store(v)
			}
			defer now.Add(-1)
			<-release
			return nil, nil
		},
	}})
	for i := range bound * inFlightCustom {
		offer(t, b, custom(string(rune('a'+i))))
	}
	eventually(t, "as many handlers run as may", func() bool { return now.Load() == bound })
	if v := r.stats.InFlight.Load(); v != bound {
		t.Errorf("%d attempts are taken", v)
	}
	close(release)
	eventually(t, "all report, though nobody answers", func() bool { return heard.Load() == bound*inFlightCustom })
	if most.Load() > bound {
		t.Errorf("%d handlers at once", most.Load())
	}
}

func TestConfig(t *testing.T) {
	b := &bus.Bus{}
	for name, cfg := range map[string]Config{
		"no bus":   {Name: "x"},
		"no name":  {Bus: b},
		"pool":     {Bus: b, Name: "x", Pool: "a.b"},
		"built in": {Bus: b, Name: "x", Handlers: map[string]Handler{op.TypeDelete: nil}},
	} {
		if err := Run(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNotSetUp(t *testing.T) {
	_, nc := natstest.One(t)
	b := setUp(t, nc)
	if err := b.JetStream().DeleteStream(t.Context(), bus.StreamWork); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), Config{Bus: b, Name: "x"}); !errors.Is(err, bus.ErrNotSetUp) {
		t.Errorf("%v", err)
	}
}
