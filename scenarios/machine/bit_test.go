package machine

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/scenarios/rig"
)

// divergence is what `hierarchy verify --replicas -o json` says about one.
type divergence struct {
	Stream string `json:"stream"`
	Node   string `json:"node"`
	Repair string `json:"repair"`
}

// exitUnchecked is the exit code of `hierarchy verify` when nothing is wrong with
// what could be checked.
const exitUnchecked = 11

// compare asks for all copies to be compared. A server that has just started may not
// have all of its copies ready.
func compare(r *rig.Rig) (found []divergence, code int) {
	r.T.Helper()
	why := ""
	if !rig.Wait(60*time.Second, func() bool {
		out, stderr, c := r.Ask("verify", "--replicas", "--stream", bus.StreamJournal, "--patience", "10s", "-o", "json")
		var v struct {
			Divergences []divergence `json:"divergences"`
		}
		if err := json.Unmarshal([]byte(out), &v); err != nil && c != exitUnchecked {
			r.T.Fatalf("hierarchy verify --replicas exits %d: %v\n%s%s", c, err, out, stderr)
		}
		found, code, why = v.Divergences, c, stderr
		return code != exitUnchecked
	}) {
		r.T.Log(why)
	}
	return found, code
}

// One bit of one copy of the journal flips on a disk. Every server calls itself
// healthy; the comparison names the copy, and the repair that it names works, all
// under load.
func TestFlippedBit(t *testing.T) {
	rounds := times(1, 6)
	r := rig.New(t, rig.Options{Nodes: 3, SyncAlways: true})
	r.Roles()
	report := rig.Report{Fault: "one bit flipped in one copy of the journal, found, copy deleted and fetched anew", Setting: setting(true), Repetitions: rounds}
	book := r.Load("bit", 16, r.Dial(), r.Dial())
	silent, slowest := 0, time.Duration(0)
	for round := range rounds {
		book.AwaitMore(200, 60*time.Second)
		victim := (leader(r, 1) + 1 + round%2) % 3
		n := r.Nodes[victim]
		n.Stop()
		dir := flip(t, n.Store)
		n.Start()
		healthy(r, 60*time.Second)
		silent++ // the server says that it is healthy

		began := time.Now()
		found, code := compare(r)
		slowest = max(slowest, time.Since(began))
		if code != 10 || !slices.ContainsFunc(found, func(d divergence) bool { return d.Stream == bus.StreamJournal && d.Node == n.Name() }) {
			t.Errorf("round %d: a flipped bit on %s: exit code %d, found %+v", round, n.Name(), code, found)
		}
		for _, d := range found {
			if !strings.Contains(d.Repair, "stop the server "+n.Name()) {
				t.Errorf("round %d: the repair of %s is %q", round, n.Name(), d.Repair)
			}
		}
		n.Stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		n.Start()
		report.Back = max(report.Back, book.AwaitMore(1, 60*time.Second))
		healthy(r, 60*time.Second)
		if found, code := compare(r); code != 0 {
			t.Errorf("round %d: after the repair of %s: exit code %d, found %+v", round, n.Name(), code, found)
		}
	}
	report.Note = fmt.Sprintf("/healthz said ok in %d of %d; found by `hierarchy verify --replicas` within %s", silent, rounds, slowest.Round(100*time.Millisecond))
	book.AwaitMore(100, 60*time.Second)
	report.Balance = book.Settle()
	report.Verify(r, book)
	report.Tell(r)
	report.Demand(r, 200*rounds)
}

// flip changes one bit in the first block of a server's copy of the journal, in the
// middle of it, and returns the directory of the copy.
func flip(t *testing.T, store string) (dir string) {
	t.Helper()
	dir = filepath.Join(store, "jetstream", "$G", "streams", bus.StreamJournal)
	blocks, err := filepath.Glob(filepath.Join(dir, "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("no block in %s: %v", dir, err)
	}
	slices.Sort(blocks)
	data, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0x10
	if err := os.WriteFile(blocks[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
