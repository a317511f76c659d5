package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

// paint is an operation on a wall.
func paint(target, params string) op.Operation {
	if params == "" {
		return op.Operation{Type: "paint", Target: target}
	}
	return op.Operation{Type: "paint", Target: target, Params: json.RawMessage(params)}
}

func TestEffects(t *testing.T) {
	s := start(t, "")
	var effect worker.Effect
	w := worker.New(s.nc, worker.WithName("painter"))
	worker.Register(w, paintFunc(func(_ context.Context, job *worker.Job[Paint]) (worker.Effect, error) {
		var was string
		if ok, err := job.Entity.Get("colour", &was); err != nil || ok && was != "red" {
			t.Errorf("colour %q, %v", was, err)
		}
		if job.Args.Colour != "green" || job.Attempt != 1 || job.IdempotencyKey != job.Operation.ID || job.Operation.Type != "paint" {
			t.Errorf("%+v", job)
		}
		return effect, nil
	}))
	s.run(w)
	for i, c := range []struct {
		effect   worker.Effect
		want     string // fields
		version  uint64
		note     string
		code     string
		terminal bool
	}{
		{worker.Effect{}, `{"colour":"red"}`, 1, "Nothing to do at ", "", false},
		{worker.Set("colour", "green").Set("html", "<b>&"), `{"colour":"green","html":"<b>&"}`, 1, "Modified at ", "", false},
		{worker.Version(), `{"colour":"red"}`, 2, "Versioned at ", "", false},
		{worker.Set("colour", nil).Version().Note("Painted %d times", 2), `{"colour":null}`, 2, "Painted 2 times at ", "", false},
		{worker.Note("Looked"), `{"colour":"red"}`, 1, "Looked at ", "", false},
		{worker.Borrow("colour", "blue", worker.Source{EntityID: "sky", Version: 1, Revision: 1, Field: "colour"}), `{"colour":"blue"}`, 1, "Borrowed at ", "", false},
		{worker.Delete(), `{}`, 1, "Deleted at ", "", false},
		{worker.Create(), "", 0, "", "bad_change", true},
		{worker.Set("a.b", 1), "", 0, "", "bad_change", true},
		{worker.Set("colour", math.Inf(1)), "", 0, "", "bad_change", true},
		{worker.Set("colour", strings.Repeat("x", 2<<20)), "", 0, "", "too_large", true},
	} {
		id := fmt.Sprintf("wall-%d", i)
		s.make(id, `{"colour":"red"}`)
		effect = c.effect
		r := s.do(paint(id, `{"colour":"green","coats":1}`))
		if c.code != "" {
			if r.Status != op.Rejected || r.Reason != op.TerminalError || r.Error == nil || r.Error.Code != c.code || !r.Error.Terminal {
				t.Errorf("%d: %s %s %+v", i, r.Status, r.Reason, r.Error)
			}
			continue
		}
		e := s.head(id)
		fields, _ := op.Marshal(e.Fields)
		if r.Status != op.Succeeded || string(fields) != c.want || e.Version != c.version || e.LastOpID != r.OpID {
			t.Errorf("%d: %s %+v, %s at version %d", i, r.Status, r.Error, fields, e.Version)
		}
		if note := e.History[len(e.History)-1].Text; !strings.HasPrefix(note, c.note) {
			t.Errorf("%d: note %q", i, note)
		}
	}
	effect = worker.Create().Set("colour", "green")
	if r := s.do(paint("new", `{"colour":"green"}`)); r.Status != op.Succeeded || s.head("new").Version != 1 {
		t.Errorf("%s %+v", r.Status, r.Error)
	}
}

// What a handler would answer in another language is what an effect is as JSON.
func TestEffectAsJSON(t *testing.T) {
	one := worker.Set("a", 1)
	two := one.Set("b", "<").Version().Note("n") // does not change one
	from := worker.Borrow("a", 2, worker.Source{EntityID: "x", Version: 1, Revision: 2, Field: "f"})
	for want, e := range map[string]worker.Effect{
		`{}`:              {},
		`{"set":{"a":1}}`: one,
		`{"set":{"a":1,"b":"<"},"version":true,"note":"n"}`: two,
		`{"create":true,"set":{"a":1}}`:                     one.Create(),
		`{"delete":true}`:                                   worker.Delete(),
		`{"set":{"a":2},"source":{"a":{"entity_id":"x","version":1,"revision":2,"field":"f"}}}`: from,
		`{"set":{"a":3}}`: from.Set("a", 3),
	} {
		got, err := e.MarshalJSON()
		var a, b any
		if err != nil || json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%s, want %s: %v", got, want, err)
		}
	}
	if _, err := worker.Set("f", func() {}).MarshalJSON(); err == nil || !strings.Contains(err.Error(), `"f"`) {
		t.Errorf("a function as a value: %v", err)
	}
}

// Params that do not fit are told to the submitter, with the field.
func TestParams(t *testing.T) {
	s := start(t, "")
	w := worker.New(s.nc)
	worker.Register(w, paintFunc(func(_ context.Context, job *worker.Job[Paint]) (worker.Effect, error) {
		return worker.Create().Set("coats", job.Args.Coats), nil
	}))
	s.run(w)
	for i, c := range []struct{ params, message string }{
		{`{"coats":3}`, ""},
		{``, ""},
		{`{"color":"red"}`, `params of paint have no field "color"`},
		{`{"coats":"three"}`, `params.coats of paint cannot be of the JSON type string`},
		{`{"coats":1.5}`, `params.coats of paint cannot be of the JSON type number 1.5`},
		{`{"coats":101}`, `params of paint: more than 100 coats`},
	} {
		r := s.do(paint(fmt.Sprintf("wall-%d", i), c.params))
		if c.message == "" {
			if r.Status != op.Succeeded {
				t.Errorf("%s: %s %+v", c.params, r.Status, r.Error)
			}
			continue
		}
		if r.Status != op.Rejected || r.Reason != op.Invalid || r.Error == nil || r.Error.Code != "bad_params" || r.Error.Message != c.message {
			t.Errorf("%s: %s %s %+v", c.params, r.Status, r.Reason, r.Error)
		}
	}
}

func TestErrors(t *testing.T) {
	s := start(t, "")
	one := uint64(7)
	for _, c := range []struct {
		name    string
		err     error
		reason  op.Reason
		code    string
		message string
		tries   int
	}{
		{"plain", errors.New("no luck"), op.MaxRetries, "", "no luck", 2},
		{"coded", worker.WithCode("no_paint", errors.New("the tin is empty")), op.MaxRetries, "no_paint", "the tin is empty", 2},
		{"terminal", worker.Terminal(worker.WithCode("no_wall", errors.New("gone"))), op.TerminalError, "no_wall", "gone", 1},
		{"wrapped", fmt.Errorf("paint: %w", worker.WithCode("outer", worker.Terminal(worker.WithCode("inner", errors.New("gone"))))), op.TerminalError, "outer", "paint: gone", 1},
		{"failure", &op.Failure{Code: "stale", Message: "changed", Terminal: true, Reason: op.StaleVersion, CurrentVersion: &one}, op.StaleVersion, "stale", "changed", 1},
	} {
		w := worker.New(s.nc)
		keys := make(chan string, 10)
		worker.Register(w, paintFunc(func(_ context.Context, job *worker.Job[Paint]) (worker.Effect, error) {
			keys <- fmt.Sprint(job.IdempotencyKey, " ", job.Attempt)
			return worker.Set("ignored", 1), c.err
		}))
		stop := s.run(w)
		o := paint("wall-"+c.name, `{}`)
		one := 1
		o.ID, o.MaxRetries = c.name, &one
		r := s.do(o)
		if r.Status != op.Rejected || r.Reason != c.reason || r.Error == nil || r.Error.Code != c.code || r.Error.Message != c.message || r.Attempt != c.tries {
			t.Errorf("%s: %s %s %+v after %d attempts", c.name, r.Status, r.Reason, r.Error, r.Attempt)
		}
		for i := range c.tries {
			if k := take(t, keys); k != fmt.Sprint(c.name, " ", i+1) {
				t.Errorf("%s: attempt %d has the key %s", c.name, i+1, k)
			}
		}
		stop()
	}
	if worker.Terminal(nil) != nil || worker.WithCode("x", nil) != nil {
		t.Error("no error has become one")
	}
	cause := errors.New("cause")
	if err := worker.Terminal(worker.WithCode("x", cause)); !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
}

func TestMiddleware(t *testing.T) {
	s := start(t, "")
	var mu sync.Mutex
	var log []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, fmt.Sprintf(format, args...))
	}
	around := func(name string) worker.Middleware {
		return func(next worker.Func) worker.Func {
			return func(ctx context.Context, task *worker.Task) (worker.Effect, error) {
				note("%s before %s", name, task.Operation.Type)
				e, err := next(ctx, task)
				note("%s after: %v", name, err)
				return e.Note("by %s", name), err
			}
		}
	}
	w := worker.New(s.nc, worker.WithMiddleware(around("outer"), around("inner")))
	worker.Register(w, paintFunc(func(context.Context, *worker.Job[Paint]) (worker.Effect, error) {
		note("handler")
		return worker.Create(), nil
	}))
	s.run(w)
	s.do(paint("wall", `{}`))
	s.do(paint("wall", `{"x":1}`))
	mu.Lock()
	defer mu.Unlock()
	want := []string{
		"outer before paint", "inner before paint", "handler", "inner after: <nil>", "outer after: <nil>",
		"outer before paint", "inner before paint", `inner after: params of paint have no field "x"`, `outer after: params of paint have no field "x"`,
	}
	if got := strings.Join(log, "\n"); got != strings.Join(want, "\n") {
		t.Error(got)
	}
	if h := s.head("wall").History; !strings.HasPrefix(h[0].Text, "by outer") {
		t.Errorf("%+v", h)
	}
}

// A stopped worker finishes what runs, and takes no more.
func TestStop(t *testing.T) {
	s := start(t, "")
	began, release := make(chan string, 10), make(chan struct{})
	fresh := func() *worker.Worker {
		w := worker.New(s.nc, worker.WithConcurrency(1))
		worker.Register(w, paintFunc(func(_ context.Context, job *worker.Job[Paint]) (worker.Effect, error) {
			began <- job.Operation.ID
			<-release
			return worker.Create(), nil
		}))
		return w
	}
	w := fresh()
	done := make(chan error, 1)
	go func() { done <- w.Run(context.Background()) }()
	<-w.Ready()
	one := s.submit(paint("one", `{}`))
	take(t, began)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Stop(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stopped while a handler runs: %v", err)
	}
	two := s.submit(paint("two", `{}`))
	release <- struct{}{}
	if err := w.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := take(t, done); err != nil {
		t.Error(err)
	}
	if r := s.end(one); r.Status != op.Succeeded || r.Attempt != 1 {
		t.Errorf("what ran: %+v", r)
	}
	if len(began) > 0 {
		t.Errorf("%s was begun", <-began)
	}
	if err := w.Run(t.Context()); !errors.Is(err, worker.ErrStopped) {
		t.Errorf("a second run: %v", err)
	}
	close(release)
	s.run(fresh())
	if r := s.end(two); r.Status != op.Succeeded || r.Attempt != 1 {
		t.Errorf("what came later: %+v", r)
	}
	never := fresh()
	if err := never.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := never.Run(t.Context()); !errors.Is(err, worker.ErrStopped) {
		t.Errorf("run after stop: %v", err)
	}
}

type unheard struct{}

func (unheard) Kind() string { return "unheard" }

func nothing[A worker.Args](context.Context, *worker.Job[A]) (worker.Effect, error) {
	return worker.Effect{}, nil
}

type badName struct{}

func (badName) Kind() string { return "a.b" }

type builtIn struct{}

func (builtIn) Kind() string { return op.TypeDelete }

type rawType struct{}

func (rawType) Kind() string { return "raw" }

// Mistakes are told at once, in words.
func TestMistakes(t *testing.T) {
	s := start(t, "")
	for want, w := range map[string]func() *worker.Worker{
		"there is no handler": func() *worker.Worker { return worker.New(s.nc) },
		"handler already": func() *worker.Worker {
			w := worker.New(s.nc)
			worker.Register(w, paintFunc(nothing[Paint]))
			worker.Register(w, paintFunc(nothing[Paint]))
			return w
		},
		`"a.b"`: func() *worker.Worker {
			w := worker.New(s.nc)
			worker.Register(w, worker.HandlerFunc[badName](nothing[badName]))
			return w
		},
		"built in": func() *worker.Worker {
			w := worker.New(s.nc)
			worker.Register(w, worker.HandlerFunc[builtIn](nothing[builtIn]))
			return w
		},
		"gives the type paint to the pool workers": func() *worker.Worker {
			w := worker.New(s.nc, worker.WithPool("gpu"))
			worker.Register(w, paintFunc(nothing[Paint]))
			return w
		},
		"gives the type raw to the pool default": func() *worker.Worker {
			w := worker.New(s.nc)
			worker.Register(w, worker.HandlerFunc[rawType](nothing[rawType]))
			return w
		},
		"must be 1 to 64 characters": func() *worker.Worker {
			w := worker.New(s.nc, worker.WithPool("a b"))
			worker.Register(w, paintFunc(nothing[Paint]))
			return w
		},
	} {
		if err := w().Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A type that the policy does not know, or gives away later, is warned of.
func TestPolicyIsCompared(t *testing.T) {
	s := start(t, "")
	log := &buffer{news: make(chan struct{}, 100)}
	w := worker.New(s.nc, worker.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	worker.Register(w, paintFunc(nothing[Paint]))
	worker.Register(w, worker.HandlerFunc[unheard](nothing[unheard]))
	s.run(w)
	log.wait(t, "op_type=unheard")
	if _, err := s.c.Bus().PutPolicy(t.Context(), []byte(`{"types":{"paint":{"pool":"gpu"}}}`)); err != nil {
		t.Fatal(err)
	}
	log.wait(t, "gives the type paint to the pool gpu")
}

// buffer is a log that can be waited for.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	news chan struct{}
}

// Write keeps a line.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.news <- struct{}{}:
	default:
	}
	return b.b.Write(p)
}

func (b *buffer) wait(t testing.TB, text string) {
	t.Helper()
	for {
		b.mu.Lock()
		ok := strings.Contains(b.b.String(), text)
		b.mu.Unlock()
		if ok {
			return
		}
		take(t, b.news)
	}
}

// Connect makes a connection of its own and closes it in the end.
func TestConnect(t *testing.T) {
	s := startWith(t, cluster.Options{Policy: []byte(`{"types":{"paint":{"pool":"workers"}}}`)})
	closed := make(chan struct{})
	w, err := worker.Connect(s.c.ClientURL(), worker.WithNATS(nats.ClosedHandler(func(*nats.Conn) { close(closed) })))
	if err != nil {
		t.Fatal(err)
	}
	worker.Register(w, paintFunc(func(context.Context, *worker.Job[Paint]) (worker.Effect, error) { return worker.Create(), nil }))
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- w.Run(ctx) }()
	<-w.Ready()
	if r := s.do(paint("wall", `{}`)); r.Status != op.Succeeded {
		t.Errorf("%+v", r)
	}
	cancel()
	if err := take(t, done); err != nil {
		t.Error(err)
	}
	take(t, closed)
	if _, err := worker.Connect("nats://127.0.0.1:1"); err == nil {
		t.Error("connected to nobody")
	}
}

func TestNotSetUp(t *testing.T) {
	n, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Port: natsd.NoListener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	nc, err := n.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	w := worker.New(nc)
	worker.Register(w, paintFunc(nothing[Paint]))
	if err := w.Run(t.Context()); !errors.Is(err, bus.ErrNotSetUp) {
		t.Errorf("%v", err)
	}
}
