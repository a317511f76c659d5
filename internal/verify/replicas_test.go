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
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

// three starts three servers with the streams of a system on all of them, and
// writes so many entries of the journal.
func three(t *testing.T, entries int) (c *natsd.Cluster, dir string, b *bus.Bus) {
	t.Helper()
	dir = t.TempDir()
	c, nc := natstest.Three(t, dir)
	l := bus.DefaultLayout()
	l.Replicas, l.Partitions = 3, 1
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	if _, err := bus.Setup(ctx, nc, l); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(ctx, nc)
	if err != nil {
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

// blocks are the files of a server's copy of the journal.
func blocks(t *testing.T, streamDir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(streamDir, "msgs", "*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// in returns the block that has a text, with what stands in it; "": none.
func in(t *testing.T, streamDir, text string) (block string, data []byte, at int) {
	t.Helper()
	for _, block := range blocks(t, streamDir) {
		data, err := os.ReadFile(block)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(data, []byte(text)); i >= 0 {
			return block, data, i
		}
	}
	return "", nil, 0
}

// flip changes the first bit of a text in a server's copy of the journal, and
// returns what stands there now.
func flip(t *testing.T, streamDir, text string) (spoilt string) {
	t.Helper()
	block, data, i := in(t, streamDir, text)
	if block == "" {
		t.Fatalf("%s is in no block of %s: %v", text, streamDir, blocks(t, streamDir))
	}
	data[i] ^= 1
	if err := os.WriteFile(block, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return string(data[i : i+len(text)])
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
	streamDir := filepath.Join(dir, node, "jetstream", "$G", "streams", bus.StreamJournal)
	for try := 1; ; try++ {
		c.StopServer(victim)
		spoilt := flip(t, streamDir, `"entry-000123"`)
		if err := c.StartServer(victim); err != nil {
			t.Fatal(err)
		}
		r = replicas(t, b, verify.ReplicaOptions{Streams: []string{bus.StreamJournal}})
		t.Log(r.Divergences)
		if !r.OK() {
			break
		}
		// A server that reads its files anew when it starts, instead of believing its
		// index, finds the bit by itself and fetches what is spoilt from the others.
		if block, _, _ := in(t, streamDir, spoilt); block != "" || try == 3 {
			t.Fatalf("the flipped bit was not found in %+v; not read: %v", r.Streams, r.Unread())
		}
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
		if ctx.Err() != nil { // it was told to stop
			err = nil
		}
		ended <- err
	}()
	for n := 0; len(ended) == 0 && (n < 3 || writes.Load() < 50); n++ {
		if r := replicas(t, b, verify.ReplicaOptions{}); !r.OK() || len(r.Unread()) > 0 {
			t.Errorf("%v, %v", r.Divergences, r.Unread())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatalf("the writer ended after %d rounds: %v", writes.Load(), err)
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
