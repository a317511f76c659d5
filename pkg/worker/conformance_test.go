package worker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

// An implementation is a way to serve types with the behaviours below.
type implementation struct {
	suffix  string // of the names of its types
	garbage string // the code of an answer that makes no sense
	start   func(s *system) process
}

// process is a running implementation.
type process struct {
	stop func() // in good order; waits for what runs
	kill func() // without a word
}

// The types: one with plenty of time, and one with little.
const (
	steady = "steady"
	brief  = "brief"

	briefLease = 2 * time.Second
)

// behaviour is one row of what every implementation does.
type behaviour struct {
	do      string // to the handler
	opType  string
	retries int
	status  op.Status
	reason  op.Reason
	code    string // of the last error; "garbage" is the implementation's own
	attempt int    // the last one
	x       any    // the field after it
}

// behaviours are what every implementation does, and what becomes of it.
var behaviours = []behaviour{
	{"set", steady, 0, op.Succeeded, "", "", 1, 1.0},
	{"fail_once", steady, 3, op.Succeeded, "", "no_luck", 2, 2.0},
	{"fail", steady, 1, op.Rejected, op.MaxRetries, "no_luck", 2, 0.0},
	{"terminal", steady, 3, op.Rejected, op.TerminalError, "no_way", 1, 0.0},
	{"panic", steady, 1, op.Rejected, op.MaxRetries, "panic", 2, 0.0},
	{"garbage", steady, 0, op.Rejected, "", "garbage", 1, 0.0},
	{"large", steady, 3, op.Rejected, op.TerminalError, "too_large", 1, 0.0},
	{"hang", brief, 0, op.Rejected, op.MaxRetries, "timeout", 1, 0.0},
	{"stubborn", brief, 1, op.Rejected, op.MaxRetries, "timeout", 2, 0.0},
	{"long", brief, 0, op.Succeeded, "", "", 1, 1.0},
}

func TestConformanceOfGo(t *testing.T) {
	conform(t, &implementation{suffix: "_go", garbage: "bad_change", start: startGo})
}

func TestConformanceOfThePlainProtocol(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("SKIPPED: there is no python3 here, so a worker without a library was not tried")
	}
	conform(t, &implementation{suffix: "_raw", garbage: "bad_response", start: func(s *system) process { return startRaw(s, python) }})
}

func conform(t *testing.T, impl *implementation) {
	types := map[string]any{}
	pool := ""
	if impl.suffix == "_go" {
		pool = worker.DefaultPool
	}
	types[steady+impl.suffix] = map[string]any{"pool": pool, "attempt_timeout": "30s"}
	types[brief+impl.suffix] = map[string]any{"pool": pool, "attempt_timeout": briefLease.String()}
	policy, err := json.Marshal(map[string]any{"types": types, "retry_base_delay": "10ms", "staging_window": "0s", "grace_period": "10ms"})
	if err != nil {
		t.Fatal(err)
	}
	s := startWith(t, cluster.Options{Policy: policy})
	p := impl.start(s)
	t.Run("alike", func(t *testing.T) {
		for _, b := range behaviours {
			t.Run(b.do, func(t *testing.T) {
				t.Parallel()
				s.of(t).behave(impl, &b)
			})
		}
		for name, f := range map[string]func(*system, *implementation){"late": late, "told": told} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f(s.of(t), impl)
			})
		}
	})
	t.Run("drain", func(t *testing.T) { drains(s.of(t), impl, p) })
	p = impl.start(s)
	t.Run("crash", func(t *testing.T) { crashes(s.of(t), impl, p) })
}

// of is the system for another test.
func (s *system) of(t testing.TB) *system { return &system{t: t, c: s.c, nc: s.nc} }

// ask submits an operation that has its handler do something to a target.
func (s *system) ask(target, opType, do string, retries int) (id string) {
	s.t.Helper()
	return s.submit(op.Operation{
		ID: target + "-" + do, Type: opType, Target: target, MaxRetries: &retries, Params: json.RawMessage(`{"do":"` + do + `"}`),
	})
}

// behave asks for one behaviour, and shows that the target serves its next
// operation without anybody's help.
func (s *system) behave(impl *implementation, b *behaviour) {
	s.t.Helper()
	target := "wall" + impl.suffix + "-" + b.do
	s.make(target, `{"x":0}`)
	began := time.Now()
	id := s.ask(target, b.opType+impl.suffix, b.do, b.retries)
	next := s.submit(op.Operation{
		ID: target + "-next", Type: op.TypeModifyField, Target: target, OnConflict: op.OnConflictQueue,
		Params: json.RawMessage(`{"field_name":"y","new_value":1}`),
	})
	s.end(next)
	took := time.Since(began)
	r := s.end(id)
	code := b.code
	if code == "garbage" {
		code = impl.garbage
	}
	got := ""
	if r.Error != nil {
		got = r.Error.Code
	}
	if r.Status != b.status || b.reason != "" && r.Reason != b.reason || got != code || r.Attempt != b.attempt {
		s.t.Errorf("%s %s, error %+v, attempt %d; want %s %s, error %s, attempt %d",
			r.Status, r.Reason, r.Error, r.Attempt, b.status, b.reason, code, b.attempt)
	}
	e := s.head(target)
	want := uint64(2)
	if b.status == op.Succeeded {
		want = 3
	}
	if e.Fields["x"] != b.x || e.Revision != want {
		s.t.Errorf("x is %v at revision %d, want %v at %d", e.Fields["x"], e.Revision, b.x, want)
	}
	// A lease for each attempt and a second; the rest is for a busy machine.
	if limit := time.Duration(b.attempt)*(briefLease+time.Second) + 5*time.Second; b.do != "long" && took > limit {
		s.t.Errorf("the next operation was served after %s", took)
	}
}

// hear subscribes to what handlers tell.
func (s *system) hear(event, id string) <-chan *nats.Msg {
	s.t.Helper()
	c := make(chan *nats.Msg, 16)
	sub, err := s.nc.ChanSubscribe("conform."+event+"."+id, c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := s.nc.Flush(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// late: the effect of an attempt that took too long is no effect, even though it
// comes while the next attempt of the same operation is there or over.
func late(s *system, impl *implementation) {
	target := "wall" + impl.suffix + "-late"
	s.make(target, `{"x":0}`)
	returned := s.hear("late", target+"-late")
	id := s.ask(target, brief+impl.suffix, "late", 3)
	r := s.end(id)
	take(s.t, returned)
	s.end(s.ask(target, steady+impl.suffix, "set", 0))
	if e := s.head(target); r.Status != op.Succeeded || r.Attempt != 2 || e.Revision != 3 || e.Fields["x"] != 1.0 {
		s.t.Errorf("%s at attempt %d; %v at revision %d", r.Status, r.Attempt, e.Fields["x"], e.Revision)
	}
}

// told: a handler that says that it is alive is told that its operation was
// cancelled, and what it does nevertheless has no effect.
func told(s *system, impl *implementation) {
	target := "wall" + impl.suffix + "-told"
	s.make(target, `{"x":0}`)
	began, stopped := s.hear("began", target+"-until_told"), s.hear("told", target+"-until_told")
	id := s.ask(target, steady+impl.suffix, "until_told", 3)
	take(s.t, began)
	if _, err := s.c.Bus().Publish(s.t.Context(), bus.CancelSubject(target), []byte(`{"op_id":"`+id+`"}`), "", nil); err != nil {
		s.t.Fatal(err)
	}
	if r := s.end(id); r.Status != op.Cancelled {
		s.t.Errorf("%s %s", r.Status, r.Reason)
	}
	take(s.t, stopped)
	s.end(s.ask(target, steady+impl.suffix, "set", 0))
	if e := s.head(target); e.Revision != 2 || e.Fields["x"] != 1.0 {
		s.t.Errorf("%v at revision %d", e.Fields["x"], e.Revision)
	}
}

// drains: a process that is to end finishes what it has begun.
func drains(s *system, impl *implementation, p process) {
	target := "wall" + impl.suffix + "-drain"
	s.make(target, `{"x":0}`)
	began := s.hear("began", target+"-slow")
	id := s.ask(target, steady+impl.suffix, "slow", 0)
	take(s.t, began)
	p.stop()
	if r := s.end(id); r.Status != op.Succeeded || r.Attempt != 1 {
		s.t.Errorf("%s %s %+v at attempt %d", r.Status, r.Reason, r.Error, r.Attempt)
	}
}

// crashes: what a process had in hand when it died is done by the next one.
func crashes(s *system, impl *implementation, p process) {
	target := "wall" + impl.suffix + "-crash"
	s.make(target, `{"x":0}`)
	began := s.hear("began", target+"-slow")
	id := s.ask(target, brief+impl.suffix, "slow", 10)
	take(s.t, began)
	p.kill()
	p = impl.start(s)
	r := s.end(id)
	if e := s.head(target); r.Status != op.Succeeded || r.Attempt < 2 || e.Revision != 2 {
		s.t.Errorf("%s %s %+v at attempt %d; revision %d", r.Status, r.Reason, r.Error, r.Attempt, e.Revision)
	}
	p.stop()
}

// startGo serves the types with this package.
func startGo(s *system) process {
	nc, err := s.c.Connect()
	if err != nil {
		s.t.Fatal(err)
	}
	w := worker.New(nc, worker.WithDrainTimeout(2*time.Second))
	worker.Register(w, worker.HandlerFunc[steadyArgs](func(ctx context.Context, job *worker.Job[steadyArgs]) (worker.Effect, error) {
		return behave(ctx, nc, &job.Task, job.Args.Do)
	}))
	worker.Register(w, worker.HandlerFunc[briefArgs](func(ctx context.Context, job *worker.Job[briefArgs]) (worker.Effect, error) {
		return behave(ctx, nc, &job.Task, job.Args.Do)
	}))
	done := make(chan error, 1)
	go func() { done <- w.Run(context.Background()) }()
	take(s.t, w.Ready())
	return process{
		stop: func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := errors.Join(w.Stop(ctx), <-done); err != nil {
				s.t.Error(err)
			}
			nc.Close()
		},
		kill: func() {
			nc.Close()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_ = w.Stop(ctx)
		},
	}
}

type doing struct {
	Do string `json:"do"`
}

type steadyArgs struct{ doing }

func (steadyArgs) Kind() string { return steady + "_go" }

type briefArgs struct{ doing }

func (briefArgs) Kind() string { return brief + "_go" }

// never is closed when all tests are over.
var never = make(chan struct{})

// behave is the handler in Go; testdata/conform.py is the same in Python.
func behave(ctx context.Context, nc *nats.Conn, task *worker.Task, do string) (worker.Effect, error) {
	tell := func(event string) {
		_ = nc.Publish("conform."+event+"."+task.Operation.ID, fmt.Append(nil, task.Attempt))
	}
	done := func(x any) worker.Effect { return worker.Set("x", x).Version().Note("Done") }
	nap := func(d time.Duration) { <-time.NewTimer(d).C }
	began := time.Now()
	tell("began")
	switch {
	case do == "fail" || do == "fail_once" && task.Attempt == 1:
		return worker.Effect{}, worker.WithCode("no_luck", errors.New("no luck"))
	case do == "terminal":
		return worker.Effect{}, worker.Terminal(worker.WithCode("no_way", errors.New("no way")))
	case do == "panic":
		panic("boom")
	case do == "hang":
		<-ctx.Done()
		return done("hung"), nil
	case do == "stubborn":
		<-never
	case do == "garbage":
		return done(math.NaN()), nil
	case do == "large":
		return done(strings.Repeat("x", 2<<20)), nil
	case do == "long":
		for time.Since(began) < 5*briefLease/2 {
			_ = worker.Heartbeat(ctx)
			nap(briefLease / 10)
		}
	case do == "late" && task.Attempt == 1:
		nap(3 * briefLease / 2)
		tell("late")
		return done("late"), nil
	case do == "until_told":
		for worker.Heartbeat(ctx) == nil {
			nap(50 * time.Millisecond)
		}
		tell("told")
		return done("zombie"), nil
	case do == "slow":
		nap(time.Second)
	}
	return done(task.Attempt), nil
}

// startRaw serves the types with a process that knows nothing but TCP.
func startRaw(s *system, python string) process {
	cmd := exec.Command(python, "testdata/conform.py", s.c.ClientURL(), "../../examples/worker-raw", steady+"_raw", brief+"_raw")
	cmd.Stderr = s.t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill() }) // when the test has failed
	ready := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		ready <- line
	}()
	if line := take(s.t, ready); line != "ready\n" {
		s.t.Fatalf("the worker says %q", line)
	}
	return process{
		stop: func() {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				s.t.Error(err)
			}
			if err := cmd.Wait(); err != nil {
				s.t.Errorf("the worker ended with %v", err)
			}
		},
		kill: func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		},
	}
}
