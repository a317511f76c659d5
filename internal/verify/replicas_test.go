package verify_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

// three starts three servers with the streams of a system on all of them, and
// writes so many entries of the journal.
func three(t *testing.T, entries int) (c *natsd.Cluster, dir string, b *bus.Bus) {
	t.Helper()
	dir = t.TempDir()
	c, err := natsd.StartCluster(3, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	nc, err := c.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	l := bus.DefaultLayout()
	l.Replicas, l.Partitions = 3, 1
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	if _, err := bus.Setup(ctx, nc, l); err != nil {
		t.Fatal(err)
	}
	if b, err = bus.Open(ctx, nc); err != nil {
		t.Fatal(err)
	}
	var last uint64
	for i := range entries {
		id := fmt.Sprintf("step-%d", i)
		var out bus.Outcome
		if last, out, err = b.JournalAppend(ctx, 0, id, fmt.Appendf(nil, `{"marker":"entry-%06d"}`, i), last); out != bus.Committed {
			t.Fatalf("%s: %v, %v", id, out, err)
		}
	}
	return c, dir, b
}

func replicas(t *testing.T, b *bus.Bus, o verify.ReplicaOptions) *verify.Replicas {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	r, err := verify.CompareReplicas(ctx, b, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// flip changes one bit of the given text in the file of a copy of the journal.
func flip(t *testing.T, dir, node, text string) (streamDir string) {
	t.Helper()
	streamDir = filepath.Join(dir, node, "jetstream", "$G", "streams", bus.StreamJournal)
	blocks, err := filepath.Glob(filepath.Join(streamDir, "msgs", "*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range blocks {
		data, err := os.ReadFile(block)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(data, []byte(text)); i >= 0 {
			data[i] ^= 1
			if err := os.WriteFile(block, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return streamDir
		}
	}
	t.Fatalf("%s is in no block of %s: %v", text, streamDir, blocks)
	return ""
}

// follower is a server that does not lead the journal.
func follower(c *natsd.Cluster) int { return (c.Leader(bus.StreamJournal) + 1) % 3 }

// TestReplicasFlippedBit flips one bit in one copy of the journal. The servers call
// themselves healthy; the comparison names the copy, and the repair that it names
// works.
func TestReplicasFlippedBit(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	const entries = 400
	c, dir, b := three(t, entries)
	r := replicas(t, b, verify.ReplicaOptions{})
	if !r.OK() || len(r.Unread()) > 0 || len(r.Streams) != 10 {
		t.Fatalf("before: %d streams, %v, %v", len(r.Streams), r.Divergences, r.Unread())
	}
	for _, s := range r.Streams {
		if s.Stream == bus.StreamJournal {
			for _, x := range s.Copies {
				if x.Messages != entries || x.First != 1 || x.Last != entries || x.Digest != s.Copies[0].Digest {
					t.Errorf("before: %+v", x)
				}
			}
		}
	}

	victim := follower(c)
	node := fmt.Sprintf("n%d", victim)
	c.StopServer(victim)
	streamDir := flip(t, dir, node, `"entry-000123"`)
	if err := c.StartServer(victim); err != nil {
		t.Fatal(err)
	}
	r = replicas(t, b, verify.ReplicaOptions{Streams: []string{bus.StreamJournal}})
	t.Log(r.Divergences)
	if r.OK() {
		t.Fatal("the flipped bit was not found")
	}
	for _, d := range r.Divergences {
		if d.Node != node || d.Stream != bus.StreamJournal || d.Disputed || !strings.Contains(d.Repair, "stop the server "+node) {
			t.Errorf("%+v", d)
		}
		if d.Kind == verify.CopyMissing && (d.First > 124 || d.Last < 124) {
			t.Errorf("entry 124 is not in %+v", d)
		}
	}

	c.StopServer(victim)
	if err := os.RemoveAll(streamDir); err != nil {
		t.Fatal(err)
	}
	if err := c.StartServer(victim); err != nil {
		t.Fatal(err)
	}
	if r = replicas(t, b, verify.ReplicaOptions{}); !r.OK() || len(r.Unread()) > 0 {
		t.Errorf("after the repair: %v, %v", r.Divergences, r.Unread())
	}
}

// TestReplicasWhileWritten compares while every stream changes, which is no
// divergence, and then with a server away, which is told and is none either.
func TestReplicasWhileWritten(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	c, _, b := three(t, 50)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	var writes atomic.Int64
	go func() {
		var err error
		for ; ctx.Err() == nil && err == nil; writes.Add(1) {
			written := writes.Load()
			m := bus.EntityMsg("e1", fmt.Append(nil, written)) // replaces the value before it
			_, err = b.Publish(ctx, m.Subject, m.Data, "", nil)
			if err == nil {
				_, err = b.Publish(ctx, bus.SubmitSubject("e1"), fmt.Append(nil, written), "", nil)
			}
			if err == nil && written%10 == 9 { // as a resolver does behind its cursor
				err = b.TrimIntake(ctx, 0, uint64(written))
			}
		}
		ended <- err
	}()
	for n := 0; n < 3 || writes.Load() < 50; n++ {
		if r := replicas(t, b, verify.ReplicaOptions{}); !r.OK() || len(r.Unread()) > 0 {
			t.Errorf("%v, %v", r.Divergences, r.Unread())
		}
	}
	stop()
	if err := <-ended; err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	victim := follower(c)
	c.StopServer(victim)
	r := replicas(t, b, verify.ReplicaOptions{Streams: []string{bus.StreamJournal}, Patience: time.Second})
	if unread := r.Unread(); !r.OK() || len(unread) != 1 || !strings.HasPrefix(unread[0], fmt.Sprintf("n%d: ", victim)) {
		t.Errorf("%v, %v", r.Divergences, r.Unread())
	}
	if _, err := verify.CompareReplicas(t.Context(), b, verify.ReplicaOptions{Streams: []string{"OPS_NONE"}}); err == nil {
		t.Error("a stream that does not exist was compared")
	}
}
