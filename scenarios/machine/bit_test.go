package machine

import (
	"bytes"
	"encoding/binary"
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

// One bit of one copy of the journal flips on a disk, each round in another part of a
// message. The server calls itself healthy all the same; the comparison names the copy,
// and the repair that it names works, all under load. Only a bit that leaves the server unable
// to tell where the next message begins may be gone by then: a server that notices
// drops the rest of the file and fetches it from the others.
func TestFlippedBit(t *testing.T) {
	rounds := times(1, len(parts))
	r := rig.New(t, rig.Options{Nodes: 3, SyncAlways: true})
	r.Roles()
	report := rig.Report{Fault: "one bit flipped in one copy of the journal, found, copy deleted and fetched anew", Setting: setting(true), Repetitions: rounds}
	book := r.Load("bit", 16, r.Dial(), r.Dial())
	silent, mended, slowest := 0, 0, time.Duration(0)
	for round := range rounds {
		book.AwaitMore(200, 60*time.Second)
		victim := (leader(r, 1) + 1 + round%2) % 3
		n, part := r.Nodes[victim], parts[round]
		var (
			w     wound
			began time.Time
			found []divergence
			code  int
		)
		for try := 1; ; try++ {
			n.Stop()
			w = flip(t, n.Store, part)
			n.Start()
			healthy(r, 60*time.Second)
			began = time.Now()
			found, code = compare(r)
			if part.framing || code != 0 || !w.gone() || try == 3 {
				break
			}
			// It read its files anew when it started, and mended what it found.
			t.Logf("%s found the bit in %s by itself; again", n.Name(), part.name)
		}
		if health(t.Context(), n) == "ok" { // after every copy was read
			silent++
		}
		slowest = max(slowest, time.Since(began))
		t.Logf("a bit flipped in %s of a message: exit code %d after %s, found %+v", part.name, code, time.Since(began).Round(100*time.Millisecond), found)
		switch {
		case code == 10 && slices.ContainsFunc(found, func(d divergence) bool { return d.Stream == bus.StreamJournal && d.Node == n.Name() }):
		case code == 0 && part.framing && w.gone():
			mended++
		default:
			t.Errorf("round %d: a bit flipped in %s of a message on %s: exit code %d, found %+v; in the file no more: %t", round, part.name, n.Name(), code, found, w.gone())
		}
		for _, d := range found {
			if !strings.Contains(d.Repair, "stop the server "+n.Name()) {
				t.Errorf("round %d: the repair of %s is %q", round, n.Name(), d.Repair)
			}
		}
		n.Stop()
		if err := os.RemoveAll(w.dir); err != nil {
			t.Fatal(err)
		}
		n.Start()
		report.Back = max(report.Back, book.AwaitMore(1, 60*time.Second))
		healthy(r, 60*time.Second)
		if found, code := compare(r); code != 0 {
			t.Errorf("round %d: after the repair of %s: exit code %d, found %+v", round, n.Name(), code, found)
		}
	}
	report.Note = fmt.Sprintf("/healthz said ok in %d of %d; %d mended by the server itself, the others found by `hierarchy verify --replicas`, within %s",
		silent, rounds, mended, slowest.Round(100*time.Millisecond))
	book.AwaitMore(100, 60*time.Second)
	report.Balance = book.Settle()
	report.Verify(r, book)
	report.Tell(r)
	report.Demand(r, 200*rounds)
}

// part is a part of a message in a block of the server: the length of the whole, the
// sequence, the time and the length of the subject; then the subject, headers, the
// body, and a checksum over everything but the lengths.
type part struct {
	name    string
	offset  int  // from the end of the message if negative
	framing bool // says, or is read before the checksum as if it said, where something ends
}

const recordHead = 4 + 8 + 8 + 2

// parts begin with the one that `make machine-short` takes.
var parts = []part{
	{name: "the body", offset: -28},
	{name: "the length", offset: 0, framing: true},
	{name: "the sequence", offset: 4},
	{name: "the time", offset: 12},
	{name: "the length of the subject", offset: 20, framing: true},
	{name: "the subject", offset: recordHead + 2, framing: true},
	{name: "the checksum", offset: -4},
}

// wound is a message that was spoilt in a file.
type wound struct {
	dir  string // of the stream's copy
	file string
	at   int64
	text []byte
}

// flip changes one bit in a message in the middle of the first block of a server's
// copy of the journal.
func flip(t *testing.T, store string, p part) (w wound) {
	t.Helper()
	w.dir = filepath.Join(store, "jetstream", "$G", "streams", bus.StreamJournal)
	blocks, err := filepath.Glob(filepath.Join(w.dir, "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("no block in %s: %v", w.dir, err)
	}
	slices.Sort(blocks)
	w.file = blocks[0]
	data, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	at, length := 0, 0
	for at+length < len(data)/2 {
		at += length
		length = int(binary.LittleEndian.Uint32(data[at:]) &^ (1 << 31)) // the bit says whether there are headers
		if length < recordHead {
			break
		}
	}
	if length < recordHead || at+length > len(data) {
		t.Fatalf("%s is not made of messages as this test knows them: %d bytes at %d of %d", w.file, length, at, len(data))
	}
	offset := p.offset
	if offset < 0 {
		offset += length
	}
	data[at+offset] ^= 0x10
	w.at, w.text = int64(at), data[at:at+length]
	if err := os.WriteFile(w.file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// gone reports whether the spoilt message is no longer where it was.
func (w wound) gone() bool {
	f, err := os.Open(w.file)
	if err != nil {
		return true
	}
	defer func() { _ = f.Close() }()
	now := make([]byte, len(w.text))
	_, err = f.ReadAt(now, w.at)
	return err != nil || !bytes.Equal(now, w.text)
}
