package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// increment adds to a counter: done twice, it would show.
func increment(id, target string) op.Operation {
	return op.Operation{
		ID: id, Type: op.TypeComplexUpdate, Target: target, OnConflict: op.OnConflictQueue,
		Params: client.Params(map[string]any{"increment": map[string]int{"counter": 1}}),
	}
}

// Submitting an id again is the same submission: after an hour, in which a take-over
// and a restart of everything happened, and however it is submitted. There is one
// effect, and whoever asks gets the first outcome.
func TestTheSameIDAnHourLater(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, dir string) {
		start := func() (*cluster.Cluster, *client.Client) {
			t.Helper()
			one := layout()
			one.Partitions = 1 // so that what ends later shows that the log was read up to there
			sys, err := cluster.Start(t.Context(), cluster.Options{StoreDir: dir, Port: cluster.NoListener, Layout: one})
			if err != nil {
				t.Fatal(err)
			}
			return sys, connect(t, sys)
		}
		sys, c := start()
		do(t, c, create("make", "user-1"))
		first := do(t, c, increment("once", "user-1"))
		lost, err := c.Do(patient(t), func() op.Operation { // loses for good
			o := set("stale", "user-1", "name", "x")
			version := int64(9)
			o.ExpectedVersion = &version
			return o
		}())
		if !errors.Is(err, client.ErrStale) {
			t.Fatal(err)
		}
		<-time.After(time.Hour)
		if err := sys.Restart(patient(t), "resolver-1"); err != nil {
			t.Fatal(err)
		}
		same(t, c, first, lost)
		end(t, sys)

		sys, c = start()
		same(t, c, first, lost)
		<-time.After(time.Hour)
		same(t, c, first, lost)
		// It works, all the same.
		if out := do(t, c, increment("twice", "user-1")); out.Revision != first.Revision+1 {
			t.Errorf("%+v", out)
		}
		end(t, sys)
	})
}

// same submits what was submitted before, in each way, and demands the outcome of
// then and nothing else.
func same(t *testing.T, c *client.Client, first, lost client.Outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	equal := func(how string, out client.Outcome, err error, want client.Outcome) {
		t.Helper()
		if err != nil || out.Status != want.Status || out.Reason != want.Reason || !out.At.Equal(want.At) || out.Revision != want.Revision ||
			out.Record.Seq != want.Record.Seq || out.Record.Step != want.Record.Step {
			t.Errorf("%s: %+v, %v\nwant %+v", how, out, err, want)
		}
	}
	h, err := c.Submit(ctx, increment("once", "user-1"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.Await(ctx)
	equal("submitted", out, err, first)
	out, err = c.Await(ctx, "once")
	equal("awaited", out, err, first)
	if h, err = c.Submit(ctx, set("stale", "user-1", "name", "y")); err != nil {
		t.Fatal(err)
	}
	out, err = h.Await(ctx)
	equal("what had lost", out, err, lost)
	all, err := c.SubmitBatch(ctx, []op.Operation{increment("once", "user-1"), increment("once-more", "user-1")}[:1])
	if err == nil {
		out, err = all[0].Await(ctx)
	}
	equal("in a batch", out, err, first)
	many, err := c.SubmitAll(ctx, []op.Operation{increment("once", "user-1")})
	if err == nil {
		out, err = many[0].Handle.Await(ctx)
	}
	equal("in bulk", out, err, first)
	if _, err := c.Conn().Request("ops.submit.user-1", []byte(`{"op_id":"once","op_type":"version_entity"}`), longEnough); err != nil { // straight into the log
		t.Error(err)
	}
	if _, err := c.Do(ctx, create("", "other-"+op.NewID())); err != nil { // stands behind them in the log
		t.Error(err)
	}
	if o, err := c.Operation(ctx, "once"); err != nil || string(o.Params) != `{"increment":{"counter":1}}` || o.OnConflict != op.OnConflictQueue {
		t.Errorf("what was submitted: %+v, %v", o, err)
	}
	v, err := c.Get(ctx, "@user-1.counter")
	if err != nil || string(v.Raw) != "1" || v.Revision != first.Revision {
		t.Errorf("the counter is %s at revision %d, %v", v.Raw, v.Revision, err)
	}
}
