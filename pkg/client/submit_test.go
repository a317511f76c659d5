package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestSubmitAndAwait(t *testing.T) {
	_, c := system(t)
	ctx := patient(t)
	h := must[*client.Handle](t)(c.Submit(ctx, create("", "user-42")))
	if !op.Token(h.ID) || h.Target != "user-42" || h.Seq == 0 {
		t.Errorf("%+v", h)
	}
	out := must[client.Outcome](t)(h.Await(ctx))
	if out.Status != op.Succeeded || out.OpID != h.ID || out.Target != "user-42" || out.Version != 1 || out.Revision != 1 || out.Err() != nil {
		t.Errorf("%+v", out)
	}
	// Late: the record is terminal already, and another client asks.
	if again := must[client.Outcome](t)(c.Await(ctx, h.ID)); again.At != out.At || again.Record.JournalSeq != out.Record.JournalSeq {
		t.Errorf("the second answer differs: %+v", again)
	}
}

func TestLosing(t *testing.T) {
	_, c := system(t)
	ctx := patient(t)
	do(t, c, create("", "user-42"))
	low, high := set("low", "user-42", "name", "Robert"), set("high", "user-42", "name", "Bobby")
	low.Priority, high.Priority = op.Low, op.High
	all := must[[]*client.Handle](t)(c.SubmitBatch(ctx, []op.Operation{low, high}))
	if len(all) != 2 || all[0].ID != "low" || all[1].Seq != all[0].Seq {
		t.Fatalf("%+v", all)
	}
	won := must[client.Outcome](t)(all[1].Await(ctx))
	lost := must[client.Outcome](t)(all[0].Await(ctx))
	if won.Status != op.Succeeded || lost.Status != op.Rejected || lost.Reason != op.LowerPriority || lost.Winner != "high" || lost.Decision == "" {
		t.Errorf("%+v\n%+v", won, lost)
	}
	err := lost.Err()
	var e *client.Error
	if !errors.Is(err, client.ErrLost) || errors.Is(err, client.ErrFailed) || !errors.As(err, &e) || e.Winner != "high" || e.Code != "OPS-2001" || e.OpID != "low" {
		t.Errorf("%v", err)
	}
	x := must[*client.Explanation](t)(all[0].Explain(ctx))
	if x.Decision == nil || x.Decision.Winner != "high" || len(x.Contenders) != 2 || !x.Contenders[1].This || x.String() == "" ||
		x.WouldHaveWon == nil || x.WouldHaveWon.Priority != op.High || x.Owner == "" {
		t.Errorf("%+v", x)
	}
}

func TestMistakes(t *testing.T) {
	_, c := system(t)
	ctx := patient(t)
	bad := set("", "user-42", "name", "x")
	bad.Params = client.Params(map[string]any{"colour": "red"})
	for name, v := range map[string]struct {
		err   error
		kind  error
		code  string
		field string
	}{
		"params":  {call(c.Submit(ctx, bad)), client.ErrInvalid, op.CodeBadParams, ""},
		"type":    {call(c.Submit(ctx, op.Operation{Type: "fly", Target: "user-42"})), client.ErrInvalid, op.CodeUnknownType, "op_type"},
		"target":  {call(c.Submit(ctx, op.Operation{Type: op.TypeVersion})), client.ErrInvalid, op.CodeMissingField, "target_entity_id"},
		"id":      {call(c.Submit(ctx, op.Operation{ID: "a.b", Type: op.TypeVersion, Target: "x"})), client.ErrInvalid, op.CodeBadID, "op_id"},
		"batch":   {call(c.SubmitBatch(ctx, []op.Operation{create("", "a"), create("", "b")})), client.ErrInvalid, op.CodeBadArray, "[1].target_entity_id"},
		"nothing": {call(c.SubmitBatch(ctx, nil)), client.ErrInvalid, op.CodeBadArray, ""},
		"json":    {call(c.Submit(ctx, op.Operation{Type: op.TypeVersion, Target: "x", Params: []byte("{")})), client.ErrInvalid, op.CodeBadJSON, "params"},
		"status":  {call(c.Status(ctx, "nobody")), client.ErrNotFound, op.CodeNotFound, "op_id"},
		"explain": {call(c.Explain(ctx, "nobody")), client.ErrNotFound, op.CodeNotFound, "op_id"},
		"await":   {call(c.Await(ctx, "nobody")), client.ErrNotFound, op.CodeNotFound, "op_id"},
		"token":   {call(c.Await(ctx, "a b")), client.ErrInvalid, op.CodeBadID, "op_id"},
		"cancel":  {c.Cancel(ctx, "nobody"), client.ErrNotFound, op.CodeNotFound, "op_id"},
	} {
		var e *client.Error
		if !errors.Is(v.err, v.kind) || !errors.As(v.err, &e) || e.Code != v.code || v.field != "" && e.Field != v.field || e.Hint == "" {
			t.Errorf("%s: %v %+v", name, v.err, e)
		}
		if op.AsError(v.err) == nil {
			t.Errorf("%s does not wrap what the system said", name)
		}
	}
}

// call drops what a call returns besides its error.
func call[T any](_ T, err error) error { return err }

// A context that ends while an operation waits says nothing about the operation.
func TestAwaitEndsWithItsContext(t *testing.T) {
	_, c := system(t)
	h := must[*client.Handle](t)(c.Submit(patient(t), create("a", "user-42")))
	gone, cancel := context.WithCancel(patient(t))
	cancel()
	if _, err := c.Await(gone, "a"); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if out := must[client.Outcome](t)(h.Await(patient(t))); out.Status != op.Succeeded {
		t.Errorf("%+v", out)
	}
}

// An id is for one operation. That it was used on another entity before is told
// where it can be seen.
func TestAnIDOfAnotherTarget(t *testing.T) {
	_, c := system(t)
	do(t, c, create("same", "user-1"))
	h := must[*client.Handle](t)(c.Submit(patient(t), create("same", "user-5"))) // of another partition, or of the same
	_, err := h.Await(patient(t))
	if err != nil && !errors.Is(err, client.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// Many operations, in few messages, each accepted or refused by itself.
func TestSubmitAll(t *testing.T) {
	_, c := system(t)
	ctx := patient(t)
	var ops []op.Operation
	for i := range 1200 {
		o := create(fmt.Sprintf("o%d", i), fmt.Sprintf("user-%d", i))
		if i%2 == 1 { // on the entity of the one before it
			o = set(o.ID, ops[i-1].Target, "n", i)
			o.OnConflict = op.OnConflictQueue
		}
		ops = append(ops, o)
	}
	ops[7].Type = "fly"
	ops[9].Params = []byte("{")
	all, err := c.SubmitAll(ctx, ops)
	if len(all) != len(ops) || !errors.Is(err, client.ErrInvalid) || !strings.Contains(err.Error(), "operation 7 of 1200") {
		t.Fatalf("%d, %v", len(all), err)
	}
	for i, s := range all {
		if i == 7 || i == 9 {
			if !errors.Is(s.Err, client.ErrInvalid) || s.Handle != nil {
				t.Errorf("%d: %+v", i, s)
			}
			continue
		}
		if s.Err != nil || s.Handle == nil || s.Handle.ID != ops[i].ID || s.Handle.Seq == 0 {
			t.Fatalf("%d: %+v", i, s)
		}
	}
	for _, i := range []int{0, 1, 600, 601, 1198, 1199} {
		if out := must[client.Outcome](t)(all[i].Handle.Await(ctx)); out.Status != op.Succeeded {
			t.Errorf("%d: %+v", i, out)
		}
	}
}

// Nobody answers: of a question nothing is known, and of a submission that nobody
// can have got it.
func TestNobodyAnswers(t *testing.T) {
	sys, c := system(t)
	kill(t, sys, c, "submitter", "ops.api.help")
	kill(t, sys, c, "observer", "ops.api.stats")
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	for name, err := range map[string]error{
		"submit": call(c.Submit(short(), create("a", "user-1"))), "get": call(c.Get(short(), "@user-1")),
		"cancel": c.Cancel(short(), "a"), "status": call(c.Status(short(), "a")),
	} {
		if !errors.Is(err, client.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A role that comes back in time is waited for.
	began := make(chan error, 1)
	go func() { began <- call(c.Submit(patient(t), create("b", "user-1"))) }()
	restart(t, sys, "submitter")
	restart(t, sys, "observer")
	if err := <-began; err != nil {
		t.Error(err)
	}
	if out, err := c.Await(patient(t), "b"); err != nil || out.Status != op.Succeeded {
		t.Errorf("%+v, %v", out, err)
	}
}

// A submission that was sent and not answered may be in the log.
func TestUnknownOutcome(t *testing.T) {
	sys, c := system(t)
	kill(t, sys, c, "submitter", "ops.api.help")
	mute, err := c.Conn().SubscribeSync("ops.api.submit") // hears and says nothing
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	h, err := c.Submit(ctx, create("", "user-1"))
	if !errors.Is(err, client.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) || h == nil || h.ID == "" {
		t.Fatalf("%+v, %v", h, err)
	}
	m, err := mute.NextMsg(longEnough)
	if err != nil || !strings.Contains(string(m.Data), h.ID) {
		t.Fatalf("%v, %v", m, err)
	}
	if err := mute.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	restart(t, sys, "submitter")
	if out := do(t, c, create(h.ID, "user-1")); out.OpID != h.ID || out.Revision != 1 {
		t.Errorf("%+v", out)
	}
}

func TestClosed(t *testing.T) {
	_, c := system(t)
	c.Conn().Close()
	for name, err := range map[string]error{
		"submit": call(c.Submit(patient(t), create("a", "user-1"))), "get": call(c.Get(patient(t), "@user-1")), "await": call(c.Await(patient(t), "a")),
		"on": call(c.On(patient(t), client.WatchOptions{}, func(context.Context, op.Event) error { return nil })),
	} {
		if !errors.Is(err, client.ErrClosed) || errors.Is(err, client.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConnect(t *testing.T) {
	sys, _ := system(t, func(o *cluster.Options) { o.Port = 0 })
	c := must[*client.Client](t)(client.Connect(patient(t), sys.ClientURL(), client.WithSubmitter("tests"), client.WithTimeout(longEnough)))
	defer c.Close()
	out := do(t, c, create("", "user-1"))
	if out.Record.Submitter != "tests" {
		t.Errorf("%+v", out.Record)
	}
	c.Close()
	if _, err := c.Status(patient(t), out.OpID); !errors.Is(err, client.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := client.Connect(patient(t), "nats://127.0.0.1:1"); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}
