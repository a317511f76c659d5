package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// upTo collects events until one is about the last operation's end.
func upTo(t *testing.T, c *client.Client, o client.WatchOptions, last string) (all []op.Event) {
	t.Helper()
	for e, err := range c.Watch(patient(t), o) {
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, e); e.OpID == last && e.Name == op.EventCompleted {
			return all
		}
	}
	t.Fatal("the watch has ended")
	return nil
}

func names(all []op.Event) (list []string) {
	for i := range all {
		list = append(list, all[i].OpID+" "+string(all[i].Name))
	}
	return list
}

func TestWatchFromNowOn(t *testing.T) {
	_, c := system(t)
	do(t, c, create("before", "user-1"))
	ctx, stop := context.WithCancel(patient(t))
	defer stop()
	events := c.Watch(ctx, client.WatchOptions{Target: "user-1", Pattern: "*.*"}) // begins here
	do(t, c, set("after", "user-1", "name", "Bob"))
	seen := map[op.EventName]bool{}
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		if e.OpID != "after" || e.Target != "user-1" {
			t.Errorf("%+v", e)
		}
		seen[e.Name] = true
		if seen[op.EventCompleted] && seen[op.EventEntityModified] {
			stop() // ends the loop without an error
		}
	}
	for _, n := range []op.EventName{op.EventSubmitted, op.EventPromoted, op.EventCompleted, op.EventEntityModified} {
		if !seen[n] {
			t.Errorf("%s was not told: %v", n, seen)
		}
	}
}

func TestWatchThePast(t *testing.T) {
	_, c := system(t)
	began := time.Now()
	do(t, c, create("a", "user-1"))
	middle := do(t, c, set("b", "user-1", "n", 1))
	do(t, c, set("c", "user-1", "n", 2))
	do(t, c, create("d", "user-2"))

	done := client.WatchOptions{Pattern: "operation.completed", Target: "user-1", Since: began.Add(-time.Minute)}
	if got, want := names(upTo(t, c, done, "c")), []string{"a operation.completed", "b operation.completed", "c operation.completed"}; !slices.Equal(got, want) {
		t.Errorf("since: %v", got)
	}
	all := upTo(t, c, client.WatchOptions{FromSeq: middle.Record.JournalSeq, Target: "user-1"}, "c")
	if all[0].OpID != "b" || all[0].Seq != middle.Record.JournalSeq || slices.ContainsFunc(all, func(e op.Event) bool { return e.OpID == "a" }) {
		t.Errorf("from a journal sequence: %v", names(all))
	}
	where := client.WatchOptions{Since: began.Add(-time.Minute), Where: func(e *op.Event) bool { return e.Revision == 3 && e.Name == op.EventCompleted }}
	if got := names(upTo(t, c, where, "c")); len(got) != 1 {
		t.Errorf("where: %v", got)
	}
	partly := client.WatchOptions{Since: began.Add(-time.Minute), Pattern: "*.com*", Target: "user-2"}
	if got := names(upTo(t, c, partly, "d")); len(got) != 1 {
		t.Errorf("a pattern of a part of a name: %v", got)
	}
}

func TestWatchOptionsAreChecked(t *testing.T) {
	_, c := system(t)
	for _, o := range []client.WatchOptions{
		{Pattern: "operation"},
		{Pattern: "operation."},
		{Pattern: "a.b.c"},
		{Pattern: "operation.>"},
		{Pattern: "a b.c"},
		{Pattern: "a.[b"},
		{Target: "user.1"},
		{Target: "*"},
		{FromSeq: 1, Since: time.Now()},
	} {
		told := 0
		for _, err := range c.Watch(patient(t), o) {
			if told++; !errors.Is(err, client.ErrInvalid) {
				t.Errorf("%+v: %v", o, err)
			}
		}
		if told != 1 {
			t.Errorf("%+v: told %d times", o, told)
		}
	}
}

// Leaving the loop leaves nothing behind, however it is left.
func TestNothingIsLeftRunning(t *testing.T) {
	_, c := system(t)
	do(t, c, create("a", "user-1"))
	past := client.WatchOptions{Since: time.Now().Add(-time.Hour)}
	for range c.Watch(patient(t), past) { // opens what a client opens once
		break
	}
	before := goleak.IgnoreCurrent()
	for i := range 20 {
		o := past
		if i%2 == 1 {
			o = client.WatchOptions{}
		}
		ctx, cancel := context.WithCancel(patient(t))
		if i%4 == 3 {
			time.AfterFunc(time.Millisecond, cancel)
		}
		if i%4 == 1 {
			go func() { _, _ = c.Do(ctx, set(fmt.Sprint("w", i), "user-1", "n", i)) }()
		}
		for range c.Watch(ctx, o) {
			break
		}
		for h := range 3 { // a handle that nobody waits for to the end
			gone, end := context.WithTimeout(ctx, time.Duration(h)*time.Millisecond)
			_, _ = c.Await(gone, "a")
			end()
		}
		s, err := c.On(ctx, past, func(context.Context, op.Event) error { return nil })
		if err == nil {
			s.Stop()
		} else if ctx.Err() == nil {
			t.Error(err)
		}
		cancel()
	}
	// The server is in this process, too. A consumer whose creation nobody waited
	// for goes away by itself, after half a minute.
	const serverConsumer = "github.com/nats-io/nats-server/v2/server.(*consumer)."
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction(serverConsumer+"loopAndGatherMsgs"),
		goleak.IgnoreAnyFunction(serverConsumer+"processInboundAcks"), goleak.IgnoreAnyFunction(serverConsumer+"processInboundNextMsgReqs"))
}
