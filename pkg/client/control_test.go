package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func policy(text string) func(*cluster.Options) {
	return func(o *cluster.Options) { o.Policy = []byte(text) }
}

func onePartition(o *cluster.Options) { o.Layout.Partitions = 1 }

// patience is a policy under which nothing is decided during a test.
const patience = `{"staging_window":"10m"`

func TestCancel(t *testing.T) {
	_, c := system(t, policy(patience+`}`))
	ctx := patient(t)
	submit := func(o op.Operation) *client.Handle {
		t.Helper()
		return must[*client.Handle](t)(c.Submit(ctx, o))
	}
	ended := func(h *client.Handle, reason op.Reason) {
		t.Helper()
		out := must[client.Outcome](t)(h.Await(ctx))
		if out.Status != op.Cancelled || out.Reason != reason || !errors.Is(out.Err(), client.ErrCancelled) {
			t.Errorf("%s: %s %s", h.ID, out.Status, out.Reason)
		}
	}
	open := func(id string) {
		t.Helper()
		r, err := c.Status(ctx, id)
		for errors.Is(err, client.ErrNotFound) { // acknowledged, and not read yet
			r, err = c.Status(ctx, id)
		}
		if err != nil || r.Status != op.Pending {
			t.Errorf("%s is %s, %v", id, r.Status, err)
		}
	}
	parent, child := create("parent", "user-1"), create("child", "user-2")
	child.Parent = "parent"
	p, k := submit(parent), submit(child)
	if err := p.Cancel(ctx); err != nil {
		t.Fatal(err)
	}
	ended(p, op.CancelledByRequest)
	ended(k, op.CancelledWithParent)

	alone, spared := create("alone", "user-1"), create("spared", "user-2")
	spared.Parent = "alone"
	p = submit(alone)
	submit(spared)
	if err := c.Cancel(ctx, "alone", client.Alone()); err != nil {
		t.Fatal(err)
	}
	ended(p, op.CancelledByRequest)
	open("spared")

	a, b, other := submit(create("a", "user-3")), submit(create("b", "user-3")), submit(create("other", "user-4"))
	if err := c.CancelTarget(ctx, "user-3"); err != nil {
		t.Fatal(err)
	}
	ended(a, op.CancelledByRequest)
	ended(b, op.CancelledByRequest)
	open("other")

	var all []*client.Handle
	for i := range 6 {
		o := create("", fmt.Sprintf("night-%d", i))
		o.Submitter = "nightly"
		all = append(all, submit(o))
	}
	if err := c.CancelSubmitter(ctx, "nightly"); err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		ended(h, op.CancelledByRequest)
	}
	open("other")

	if err := c.Cancel(ctx, "a"); !errors.Is(err, client.ErrEnded) {
		t.Errorf("%v", err)
	}
	if err := other.Cancel(ctx); err != nil { // the handle knows the target, so nothing is looked up
		t.Error(err)
	}
	for name, err := range map[string]error{"submitter": c.CancelSubmitter(ctx, ""), "target": c.CancelTarget(ctx, "a b")} {
		if !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What was given up is tried again as it was, once, whoever asks how often.
func TestRetry(t *testing.T) {
	_, c := system(t)
	ctx := patient(t)
	dead := set("dead", "user-1", "name", "Bob") // there is no user-1
	never := 0
	dead.Labels, dead.Submitter, dead.MaxRetries = map[string]string{"why": "import"}, "nightly", &never
	out, err := c.Do(ctx, dead)
	var f *op.Failure
	if !errors.Is(err, client.ErrFailed) || !errors.As(err, &f) || f.Message == "" || out.Reason != op.MaxRetries {
		t.Fatalf("%+v, %v", out, err)
	}
	do(t, c, create("", "user-1"))
	h := must[*client.Handle](t)(c.Retry(ctx, "dead"))
	if h.ID == "dead" || h.Target != "user-1" || h.Seq == 0 {
		t.Errorf("%+v", h)
	}
	out = must[client.Outcome](t)(h.Await(ctx))
	if out.Status != op.Succeeded || out.Record.RetryOf != "dead" || out.Record.Submitter != "nightly" {
		t.Errorf("%+v", out)
	}
	again := must[*client.Handle](t)(c.Retry(ctx, "dead"))
	if again.ID != h.ID {
		t.Errorf("%s and %s", again.ID, h.ID)
	}
	if v := must[client.Value](t)(c.Get(ctx, "@user-1.name")); string(v.Raw) != `"Bob"` || v.Revision != 2 {
		t.Errorf("%+v", v)
	}
	o := must[op.Operation](t)(c.Operation(ctx, h.ID))
	if o.RetryOf != "dead" || o.Labels["why"] != "import" || !strings.Contains(string(o.Params), "Bob") {
		t.Errorf("%+v", o)
	}
	for _, id := range []string{"nobody", out.OpID} {
		if _, err := c.Retry(ctx, id); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestDryRun(t *testing.T) {
	_, c := system(t, policy(patience+`,"paused":{"targets":["frozen"]}}`))
	ctx := patient(t)
	first := create("first", "user-1")
	first.Priority = op.High
	if f := must[op.Forecast](t)(c.DryRun(ctx, first)); f.Outlook != op.WouldWin || f.Staged != 0 || f.OpID != "first" {
		t.Errorf("%+v", f)
	}
	must[*client.Handle](t)(c.Submit(ctx, first))
	second := set("second", "user-1", "n", 1)
	second.Priority = op.Low
	var f op.Forecast
	for f.Staged == 0 { // until the first is staged
		if f = must[op.Forecast](t)(c.DryRun(ctx, second)); f.Outlook != op.WouldLose && f.Staged > 0 {
			t.Fatalf("%+v", f)
		}
	}
	if f.Against != "first" || f.Reason != op.LowerPriority {
		t.Errorf("%+v", f)
	}
	if _, err := c.Status(ctx, "second"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a dry run left a record: %v", err)
	}
	if f := must[op.Forecast](t)(c.DryRun(ctx, create("", "frozen"))); f.Outlook != op.WouldRefuse || f.Reason != op.Paused {
		t.Errorf("%+v", f)
	}
	if _, err := c.DryRun(ctx, op.Operation{Type: "fly", Target: "user-1"}); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestThePolicySaysNo(t *testing.T) {
	_, c := system(t, policy(`{"paused":{"targets":["frozen-*"]},"priority_out_of_range":"refuse","submitters":{"nightly":{"max":2}},
		"types":{"charge":{"schema":{"type":"object","required":["amount"],"properties":{"amount":{"type":"integer"}}}}}}`))
	ctx := patient(t)
	nightly := create("", "user-1")
	nightly.Submitter, nightly.Priority = "nightly", op.High
	for name, v := range map[string]struct {
		o     op.Operation
		kind  error
		field string
	}{
		"paused":   {create("", "frozen-1"), client.ErrPaused, ""},
		"priority": {nightly, client.ErrNotAllowed, "priority"},
		"schema":   {op.Operation{Type: "charge", Target: "user-1", Params: client.Params(map[string]any{"amount": "x"})}, client.ErrInvalid, "params.amount"},
	} {
		_, err := c.Submit(ctx, v.o)
		var e *client.Error
		if !errors.Is(err, v.kind) || errors.Is(err, client.ErrUnknown) || !errors.As(err, &e) || e.Field != v.field || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	batch := []op.Operation{{Type: "charge", Target: "user-1", Params: client.Params(map[string]any{"amount": 1})}, {Type: "charge", Target: "user-1"}}
	var e *client.Error
	if _, err := c.SubmitBatch(ctx, batch); !errors.As(err, &e) || e.Field != "[1].params.amount" {
		t.Errorf("%v", err)
	}
}

// A partition that is half full puts submitters off; when there is room again, the
// same operation gets in.
func TestOverloaded(t *testing.T) {
	_, c := system(t, onePartition, policy(patience+`,"operation_queue_size":8}`))
	ctx := patient(t)
	var all []*client.Handle
	for i := range 4 {
		all = append(all, must[*client.Handle](t)(c.Submit(ctx, create(fmt.Sprint("o", i), fmt.Sprint("user-", i)))))
	}
	probe := create("probe", "user-9")
	for { // until the news of it have come to the edge
		if f := must[op.Forecast](t)(c.DryRun(ctx, probe)); f.Reason == op.Overloaded {
			break
		}
	}
	_, err := c.Submit(ctx, probe)
	var e *client.Error
	if !errors.Is(err, client.ErrOverloaded) || errors.Is(err, client.ErrUnknown) || !errors.As(err, &e) || e.Code != op.CodeOverloaded ||
		client.RetryAfter(err) <= 0 || client.RetryAfter(err) > time.Minute {
		t.Fatalf("%v", err)
	}
	if _, err := c.Status(ctx, "probe"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("what was refused has a record: %v", err)
	}
	many := make(chan error, 1)
	go func() { // waits for room
		_, err := c.SubmitAll(ctx, []op.Operation{create("bulk-1", "user-11"), create("bulk-2", "user-12")})
		many <- err
	}()
	for _, h := range all {
		if err := h.Cancel(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for errors.Is(err, client.ErrOverloaded) {
		_, err = c.Submit(ctx, probe)
	}
	if err != nil {
		t.Error(err)
	}
	if err := <-many; err != nil {
		t.Error(err)
	}
	for _, id := range []string{"probe", "bulk-1", "bulk-2"} {
		if r := must[op.Record](t)(record(ctx, c, id)); r.Status != op.Pending {
			t.Errorf("%s is %s", id, r.Status)
		}
	}
}
