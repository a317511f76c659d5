package optest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func create(target, fields string) op.Operation {
	return op.Operation{Type: op.TypeCreate, Target: target, Params: json.RawMessage(`{"fields":` + fields + `}`)}
}

func rename(name string, p op.Priority) op.Operation {
	return op.Operation{
		Type: op.TypeModifyField, Target: "user-42", Priority: p,
		Params: json.RawMessage(fmt.Sprintf(`{"field_name":"name","new_value":%q}`, name)),
	}
}

// One conflict, seen through every helper.
func TestSystem(t *testing.T) {
	t.Parallel()
	s := optest.Start(t)
	if r := s.Do(create("user-42", `{"name":"Bob"}`)); r.Status != op.Succeeded {
		t.Fatalf("create is %s %s", r.Status, r.Reason)
	}
	ids := s.MustSubmitBatch(rename("Robert", op.Low), rename("Bobby", op.High))
	if r := s.Await(ids[0]); r.Status != op.Rejected || r.Reason != op.LowerPriority || r.Winner != ids[1] {
		t.Errorf("the loser is %s %s against %s, want it to have lost to %s", r.Status, r.Reason, r.Winner, ids[1])
	}
	if r := s.WaitFor(ids[1], op.Executing); r.Attempt != 1 {
		t.Errorf("the winner has made %d attempts", r.Attempt)
	}
	if r := s.WaitFor(ids[1], op.Succeeded); r.Revision != 2 {
		t.Errorf("the winner made revision %d, want 2", r.Revision)
	}
	if got := s.Entity("@user-42.name"); got != `"Bobby"` {
		t.Errorf("the name is %s", got)
	}
	var first struct{ Fields struct{ Name string } }
	if s.Decode("@user-42~1", &first); first.Fields.Name != "Bob" {
		t.Errorf("version 1 is %+v", first)
	}
	if text := strings.Join(s.Explain(ids[0]), " "); !strings.Contains(text, ids[1]) {
		t.Errorf("the explanation does not name the winner: %s", text)
	}
	e := s.WaitEvent(func(e op.Event) bool { return e.Name == op.EventConflict })
	if len(e.Contenders) != 2 {
		t.Errorf("%d contenders", len(e.Contenders))
	}
	s.Quiesce()
	var names []op.EventName
	for _, e := range s.Events() {
		if e.OpID == ids[0] {
			names = append(names, e.Name)
		}
	}
	if want := []op.EventName{op.EventSubmitted, op.EventRejected}; !slices.Equal(names, want) {
		t.Errorf("events of the loser %v, want %v", names, want)
	}
	s.Verify(t)

	if id, err := s.Submit(op.Operation{Type: "nonsense", Target: "user-42"}); op.AsError(err) == nil || op.AsError(err).Code != op.CodeUnknownType {
		t.Errorf("an unknown type: %q, %v", id, err)
	}
	out, err := s.Client().Do(t.Context(), rename("Rob", 0))
	if err != nil || out.Version != 1 || out.Revision != 3 {
		t.Errorf("through the client: %+v, %v", out, err)
	}
}

// Systems do not know of each other.
func TestParallel(t *testing.T) {
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			s := optest.Start(t)
			s.Do(create("user-42", fmt.Sprintf(`{"n":%d}`, i)))
			if got := s.Entity("@user-42.n"); got != fmt.Sprint(i) {
				t.Errorf("n is %s, want %d", got, i)
			}
			s.Verify(t)
		})
	}
}

// Roles die in turn in the middle of a load, and nothing is lost or done twice.
func TestKill(t *testing.T) {
	t.Parallel()
	const n = 60
	s := optest.Start(t, optest.WithResolvers(2), optest.WithExecutors(2))
	s.Do(create("counter", `{"n":0}`))
	var ids []string
	for i := range n {
		switch i {
		case n / 4:
			must(t, s.Kill("executor-1"))
		case n / 2:
			must(t, s.Kill("resolver-1"))
		case n * 3 / 4:
			must(t, s.Restart(t.Context(), "executor-1"))
			must(t, s.Restart(t.Context(), "resolver-1"))
		}
		ids = append(ids, s.MustSubmit(op.Operation{
			Type: op.TypeComplexUpdate, Target: "counter", OnConflict: op.OnConflictQueue, Params: json.RawMessage(`{"increment":{"n":1}}`),
		}))
	}
	for _, id := range ids {
		if r := s.Await(id); r.Status != op.Succeeded {
			t.Errorf("%s is %s %s", id, r.Status, r.Reason)
		}
	}
	if got := s.Entity("@counter.n"); got != fmt.Sprint(n) {
		t.Errorf("the counter says %s, want %d", got, n)
	}
	s.Verify(t)
	if err := s.Kill("janitor-1"); err == nil {
		t.Error("a role that there is not was killed")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What a policy says holds from the first operation on, and another one from when
// ChangePolicy returns.
func TestPolicy(t *testing.T) {
	t.Parallel()
	s := optest.Start(t, optest.WithPolicy(`{"staging_window":"1h","retry_max_delay":"6s"}`), optest.WithStagingWindow(0))
	if r := s.Do(create("user-1", `{}`)); r.Status != op.Succeeded {
		t.Errorf("%s %s", r.Status, r.Reason)
	}
	must(t, s.ChangePolicy(t.Context(), `{"staging_window":"1h"}`))
	id := s.MustSubmit(create("user-42", `{}`))
	s.WaitFor(id, op.Pending)
	must(t, s.ChangePolicy(t.Context(), `{"staging_window":"0s"}`))
	must(t, s.Client().Cancel(t.Context(), id))
	if r := s.Await(id); r.Status != op.Cancelled {
		t.Errorf("within a window of an hour it is %s %s", r.Status, r.Reason)
	}
	if err := s.ChangePolicy(t.Context(), `{"stagin_window":"1h"}`); err == nil {
		t.Error("a policy with a mistake is in force")
	}
	for _, o := range []optest.Option{optest.WithPolicy(`{"stagin_window":"1s"}`), optest.WithPolicy(`[]`), optest.WithPolicy(`{"types":1}`), optest.WithPolicy(`{"types":{"x":{"schema":{"type":"strin"}}}}`)} {
		if l, err := optest.Open(t.Context(), o); err == nil {
			l.Close()
			t.Error("a policy with a mistake was accepted at the start")
		}
	}
}

// A system goes on where another one on the same directory has ended.
func TestStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := optest.Open(t.Context(), optest.WithStore(dir))
	must(t, err)
	_, err = first.Client().Do(t.Context(), create("user-42", `{"n":1}`))
	must(t, err)
	must(t, first.Close())
	second := optest.Start(t, optest.WithStore(dir))
	if got := second.Entity("@user-42.n"); got != "1" {
		t.Errorf("n is %s", got)
	}
}

// With a listener, other processes can come in.
func TestListener(t *testing.T) {
	t.Parallel()
	s := optest.Start(t, optest.WithListener())
	nc, err := nats.Connect(s.URL())
	must(t, err)
	defer nc.Close()
	_, err = nc.Request("ops.submit.user-42", []byte(`{"op_id":"one","op_type":"create_entity"}`), 5*time.Second)
	must(t, err)
	if r := s.Await("one"); r.Status != op.Succeeded {
		t.Errorf("%s %s", r.Status, r.Reason)
	}
	if url := optest.Start(t).URL(); url != "" {
		t.Errorf("a system without a listener listens at %s", url)
	}
}

// failing is a test that notes how it fails, in a goroutine of its own as Fatal
// wants it.
type failing struct {
	testing.TB
	said []string
}

func (f *failing) Errorf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *failing) Helper() {}

func says(t *testing.T, s *optest.System, want string, do func(s *optest.System, f *failing)) {
	t.Helper()
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(s.For(f), f)
	}()
	<-done
	if len(f.said) == 0 || !strings.Contains(f.said[0], want) {
		t.Errorf("the test was told %q, want %q in it", f.said, want)
	}
}

// A helper that cannot keep its promise fails the test in words that help.
func TestHelpersFail(t *testing.T) {
	t.Parallel()
	s := optest.Start(t)
	s.Do(create("user-42", `{"name":"Bob"}`))
	brief := s.Within(50 * time.Millisecond)
	lost := s.MustSubmitBatch(rename("Robert", op.Low), rename("Bobby", op.High))[0]
	says(t, s, "never was SUCCEEDED: it is REJECTED lower_priority against", func(s *optest.System, _ *failing) { s.WaitFor(lost, op.Succeeded) })
	says(t, brief, "nobody has submitted it", func(s *optest.System, _ *failing) { s.Await("nothing") })
	says(t, brief, "waiting for an event", func(s *optest.System, _ *failing) { s.WaitEvent(func(op.Event) bool { return false }) })
	says(t, s, "there is no entity nobody", func(s *optest.System, _ *failing) { s.Entity("@nobody") })
	says(t, s, op.CodeBadParams, func(s *optest.System, _ *failing) {
		s.MustSubmit(op.Operation{Type: op.TypeModifyField, Target: "user-42", Params: json.RawMessage(`{"field":"name"}`)})
	})
	late := create("late", `{}`)
	must(t, s.ChangePolicy(t.Context(), `{"staging_window":"1h"}`))
	s.MustSubmit(late)
	says(t, brief, "still open", func(s *optest.System, _ *failing) { s.Quiesce() })
}

// Verify fails for what cannot have come about by the rules.
func TestVerifyFails(t *testing.T) {
	t.Parallel()
	s := optest.Start(t)
	s.Do(create("user-42", `{"name":"Bob"}`))
	head := strings.Replace(s.Entity("@user-42"), "Bob", "Mallory", 1)
	_, err := s.Conn().RequestMsgWithContext(t.Context(), &nats.Msg{Subject: "$KV.OPS_ENTITIES.user-42", Data: []byte(head)})
	must(t, err)
	says(t, s, "user-42", func(s *optest.System, f *failing) { s.Verify(f) })
}

func TestOpenGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if l, err := optest.Open(ctx); err == nil {
		l.Close()
		t.Error("started in spite of its context")
	}
}
