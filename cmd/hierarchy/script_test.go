package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"hierarchy": main}) }

// TestScript runs testdata/*.txtar. Each script has a system of its own, whose
// address is in NATS_URL; targets that begin with slow- have a window of an hour.
// Beside the usual commands there are
//
//	exits N COMMAND…    runs a program and demands its exit code
//	contend TARGET W L  submits the operations W and L in one message; W wins
//	term                sends SIGTERM to the last program in the background
//	await FILE          waits until the file exists, and puts its first line into $FILE
//	await-record OP     waits until the operation has a record
//	enforced            waits until every partition follows the policy on the server
//	forget SUBJECT      takes a key out of a bucket, as `nats kv del` does
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               system,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "contend": contend, "await": awaitFile, "term": term, "await-record": awaitRecord, "enforced": enforced, "forget": forget,
		},
	})
}

const policy = `{"window_by_prefix":{"slow-":"1h"}}`

type busKey struct{}

// system starts a system for one script.
func system(e *testscript.Env) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{StoreDir: filepath.Join(e.WorkDir, ".store")})
	if err != nil {
		return err
	}
	e.Defer(func() {
		stop, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := c.Stop(stop); err != nil {
			panic(err)
		}
	})
	e.Setenv("NATS_URL", c.ClientURL())
	e.Setenv("HOME", e.WorkDir)
	e.Values[busKey{}] = c.Bus()
	return enforce(ctx, c.Bus())
}

// enforce sets the policy and waits until every partition follows it.
func enforce(ctx context.Context, b *bus.Bus) error {
	rev, err := b.PutPolicy(ctx, []byte(policy))
	if err != nil {
		return err
	}
	return follows(ctx, b, rev)
}

// follows waits until every partition follows the policy of a revision.
func follows(ctx context.Context, b *bus.Bus, rev uint64) error {
	missing := b.Layout().Partitions
	for e, err := range b.JournalFollow(ctx, 0) {
		if err != nil {
			return err
		}
		var s arbiter.Step
		if err := json.Unmarshal(e.Data, &s); err != nil {
			return err
		}
		for _, in := range s.In {
			if in.Policy != nil && in.Policy.Revision == rev {
				missing--
			}
		}
		if missing == 0 {
			return nil
		}
	}
	return ctx.Err()
}

func enforced(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: enforced")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	b := ts.Value(busKey{}).(*bus.Bus)
	_, rev, err := b.Policy(ctx)
	ts.Check(err)
	ts.Check(follows(ctx, b, rev))
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func contend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: contend TARGET WINNER LOSER")
	}
	target, winner, loser := args[0], args[1], args[2]
	body := fmt.Sprintf(`[{"op_id":%q,"op_type":"version_entity","priority":"LOW"},{"op_id":%q,"op_type":"version_entity","priority":"HIGH"}]`, loser, winner)
	b := ts.Value(busKey{}).(*bus.Bus)
	_, err := b.Publish(context.Background(), bus.SubmitSubject(target), []byte(body), "", nil)
	ts.Check(err)
}

// awaitRecord waits for the record of an operation that was submitted without
// waiting: the log has it, and its partition may not have read it yet.
func awaitRecord(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await-record OP")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	b := ts.Value(busKey{}).(*bus.Bus)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		_, found, err := b.Record(ctx, args[0])
		ts.Check(err)
		if found {
			return
		}
		<-tick.C
	}
}

func forget(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: forget SUBJECT")
	}
	b := ts.Value(busKey{}).(*bus.Bus)
	_, err := b.Publish(context.Background(), args[0], nil, "", nats.Header{"KV-Operation": {"DEL"}})
	ts.Check(err)
}

func term(ts *testscript.TestScript, neg bool, args []string) {
	running := ts.BackgroundCmds()
	if neg || len(args) > 0 || len(running) == 0 {
		ts.Fatalf("usage: term, with a program in the background")
	}
	ts.Check(running[len(running)-1].Process.Signal(syscall.SIGTERM))
}

func awaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	give := time.After(30 * time.Second)
	for {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil {
			first, _, _ := strings.Cut(string(data), "\n")
			ts.Setenv("FILE", first)
			return
		}
		select {
		case <-tick.C:
		case <-give:
			ts.Fatalf("no file %s", args[0])
		}
	}
}

// TestExitOf goes through every reason: each has an exit code of its own choice,
// and none falls through to "any other error".
func TestExitOf(t *testing.T) {
	for _, r := range op.Reasons() {
		if code := exitOf(op.Rejected, r.Reason); code == daemon.ExitOther || code == daemon.ExitDone {
			t.Errorf("%s has exit code %d", r.Reason, code)
		}
	}
	if code := exitOf(op.Succeeded, ""); code != daemon.ExitDone {
		t.Errorf("a success has exit code %d", code)
	}
}
