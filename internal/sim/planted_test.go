package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
)

var (
	flagPlanted = flag.Bool("sim.planted", false, "build the program with planted faults, one after the other, and look for each")
	flagOnly    = flag.String("sim.only", "", "with -sim.planted: only this one")
)

// unfenced appends behind whatever the journal ends with.
type unfenced struct{ resolver.Log }

func (u unfenced) JournalAppend(ctx context.Context, p int, id string, data []byte, _ uint64) (uint64, bus.Outcome, error) {
	last, _, err := u.JournalLast(ctx, p)
	if err != nil {
		return 0, bus.Unknown, err
	}
	return u.Log.JournalAppend(ctx, p, id, data, last.Seq)
}

// hopeful takes an unknown outcome for a commit.
type hopeful struct{ resolver.Log }

func (h hopeful) JournalAppend(ctx context.Context, p int, id string, data []byte, expected uint64) (uint64, bus.Outcome, error) {
	seq, out, err := h.Log.JournalAppend(ctx, p, id, data, expected)
	if out == bus.Unknown {
		return expected + 1, bus.Committed, nil
	}
	return seq, out, err
}

// hasty says that a step is committed when it has only been sent.
type hasty struct {
	resolver.Log
	w *world
}

func (h hasty) JournalAppend(ctx context.Context, p int, id string, data []byte, expected uint64) (uint64, bus.Outcome, error) {
	h.w.k.current.scope.spawn(func(*task) { _, _, _ = h.Log.JournalAppend(ctx, p, id, data, expected) })
	return h.w.journal.last + 1, bus.Committed, nil
}

// greedy trims what nobody has consumed yet.
type greedy struct{ resolver.Log }

func (g greedy) TrimIntake(ctx context.Context, p int, upTo uint64) error {
	return g.Log.TrimIntake(ctx, p, upTo+3)
}

// crooked does something to one output in eight of those whose subject begins so.
type crooked struct {
	resolver.Log
	prefix string
	spoil  func(o resolver.Outbox, m *nats.Msg) // instead of adding it
}

func (c crooked) Outbox() resolver.Outbox { return &crookedBox{Outbox: c.Log.Outbox(), how: c} }

type crookedBox struct {
	resolver.Outbox
	how crooked
	n   int
}

func (b *crookedBox) Add(m *nats.Msg) {
	if strings.HasPrefix(m.Subject, b.how.prefix) {
		if b.n++; b.n%8 == 0 {
			b.how.spoil(b.Outbox, m)
			return
		}
	}
	b.Outbox.Add(m)
}

func lose(resolver.Outbox, *nats.Msg) {}

// misquote tells of another operation.
func misquote(o resolver.Outbox, m *nats.Msg) {
	o.Add(&nats.Msg{Subject: m.Subject, Header: m.Header, Data: bytes.Replace(m.Data, []byte(`"op_id":"`), []byte(`"op_id":"x`), 1)})
}

// instead has executors and readers told something else.
func instead(is, told string) Options {
	return Options{told: func(data []byte) []byte { return bytes.Replace(data, []byte(is), []byte(told), 1) }}
}

// logFaults are faults between the resolvers and everybody else, with what a history
// has to be found wrong for: each check of this package is the only one to find some.
var logFaults = map[string]struct {
	says string
	o    Options
}{
	"no fence": {"log.chain", Options{wrap: func(_ *world, l resolver.Log) resolver.Log { return unfenced{l} }}},
	"an unknown outcome is taken for a commit": {"liveness.stuck", Options{wrap: func(_ *world, l resolver.Log) resolver.Log { return hopeful{l} }}},
	"outputs before the commit":                {"log.chain", Options{wrap: func(w *world, l resolver.Log) resolver.Log { return hasty{l, w} }}},
	"trimmed before it was consumed":           {"clients.lost: c", Options{wrap: func(_ *world, l resolver.Log) resolver.Log { return greedy{l} }}},
	"an event is lost":                         {"views.event_lost", spoiled("ops.event.", lose)},
	"an event is of another operation":         {"it does not say what its step says", spoiled("ops.event.", misquote)},
	"a record is lost":                         {"views.operations", spoiled("$KV.OPS_OPERATIONS.", lose)},
	"a head is lost":                           {"views.entities", spoiled("$KV.OPS_ENTITIES.", lose)},
	"a reader is told of another end":          {"clients.read", instead(`"status":"SUCCEEDED"`, `"status":"CANCELLED"`)},
	"a refused result is said to count":        {"clients.result", instead(`"accepted":false`, `"accepted":true`)},
}

func spoiled(prefix string, spoil func(resolver.Outbox, *nats.Msg)) Options {
	return Options{wrap: func(_ *world, l resolver.Log) resolver.Log { return crooked{l, prefix, spoil} }}
}

// A simulation that cannot fail shows nothing.
func TestFaultsBetweenResolverAndLogAreFound(t *testing.T) {
	for name, f := range logFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			others := 0
			for seed := uint64(1); seed <= 2000; seed++ {
				r := Run(seed, f.o)
				if r.OK() {
					continue
				}
				if !strings.Contains(r.Failures[0], f.says) {
					others++ // the same fault, seen by another check
					continue
				}
				again := Run(seed, f.o)
				if again.Hash != r.Hash || verdict(again) != verdict(r) {
					t.Errorf("seed %d does not replay:\n%s%s", seed, verdict(r), verdict(again))
				}
				t.Logf("found by history %d, and by %d others for another reason: %.200s", seed, others, r.Failures[0])
				return
			}
			t.Errorf("2000 histories did not find %q, and %d something else", f.says, others)
		})
	}
}

// plant is a fault in the program itself: a change of its source.
type plant struct{ name, file, old, new string }

var plants = []plant{
	{
		"no-fence", "internal/resolver/partition.go",
		"p.bus.JournalAppend(appendCtx, p.id, s.ID, data, p.seq)",
		"p.bus.JournalAppend(appendCtx, p.id, s.ID, data, func() uint64 { e, _, _ := p.bus.JournalLast(appendCtx, p.id); return e.Seq }())",
	},
	{
		"outputs-before-commit", "internal/resolver/partition.go",
		"	seq, outcome, err := p.bus.JournalAppend(appendCtx",
		"	if early, err := p.outputs(ctx, s, p.seq+1); err != nil {\n\t\treturn err\n\t} else if err := p.emitter.emit(ctx, early); err != nil {\n\t\treturn err\n\t}\n	seq, outcome, err := p.bus.JournalAppend(appendCtx",
	},
	{
		"unknown-taken-for-lost", "internal/resolver/partition.go",
		"		p.cfg.Metrics.UnknownOutcomes.Inc()\n",
		"		if e, _, err := p.bus.JournalLast(appendCtx, p.id); err == nil {\n\t\t\tp.seq = e.Seq\n\t\t\treturn p.commit(ctx, s, g)\n\t\t}\n",
	},
	{
		"late-result-accepted", "internal/arbiter/attempt.go",
		"	case e.attempt != c.attempt:", "	case e.attempt < c.attempt:",
	},
	{
		"retry-timer-lost-in-take-over", "internal/arbiter/snapshot.go",
		"		m.arm(&e.wake, timer{at: e.due, kind: timerRetry, key: id, entry: e})\n", "",
	},
	{
		"lease-timer-lost-in-take-over", "internal/arbiter/snapshot.go",
		"		m.arm(&e.wake, timer{at: e.lease, kind: timerLease, key: id, entry: e})\n", "",
	},
	{
		"outputs-lost-in-take-over", "internal/resolver/takeover.go",
		"	return p.emitter.emit(ctx, out)\n", "	p.emitter.emitted.Store(out.step)\n	return nil\n",
	},
	{
		"mark-taken-for-a-repeat", "internal/resolver/emission.go", // a real one, mended since
		"	e.out.At(e.seq)\n", "",
	},
	{
		"trimmed-ancestor-unknown", "internal/resolver/kinship.go", // a real one, mended since
		"	if search.step[partition] == 0 {\n", "	if need == 0 {\n\t\treturn true, nil\n\t}\n	if search.step[partition] == 0 {\n",
	},
	{
		"answer-before-commit", "internal/resolver/partition.go",
		"	// A commit that has begun is finished", "	p.answer(s, g)\n	// A commit that has begun is finished",
	},
}

var seedLine = regexp.MustCompile(`(?m)^make sim SEED=(\d+) prints`)

// Each planted fault is found within the minute that the histories have, and the
// seed makes the same history again, byte for byte. It builds the program many
// times, so it is not part of an ordinary run.
func TestPlantedFaultsAreFound(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plants { // whoever moves a line hears of it in an ordinary run
		if _, err := p.apply(root); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
	if !*flagPlanted {
		t.Skip("builds the program many times; make sim-planted")
	}
	for _, p := range plants {
		if *flagOnly != "" && p.name != *flagOnly {
			continue
		}
		t.Run(p.name, func(t *testing.T) { p.look(t, root) })
	}
}

func (p *plant) look(t *testing.T, root string) {
	binary := p.build(t, root)
	began := time.Now()
	out, code := command(t, time.Minute, binary, "-test.run=^TestHistories$", "-sim.histories=10000", "-sim.first=1")
	took := time.Since(began)
	m := seedLine.FindSubmatch(out)
	if code == 0 || m == nil {
		t.Fatalf("not found in %s, exit code %d: %s", took.Round(time.Second), code, tail(out))
	}
	seed := string(m[1])
	first, code := command(t, time.Minute, binary, "-sim.seed="+seed)
	second, _ := command(t, time.Minute, binary, "-sim.seed="+seed)
	if code == 0 || !bytes.Equal(first, second) {
		t.Fatalf("seed %s does not replay: exit code %d, %d and %d bytes", seed, code, len(first), len(second))
	}
	i := bytes.Index(first, []byte("VIOLATION"))
	if i < 0 {
		t.Fatalf("the history of seed %s has no violation: %s", seed, tail(first))
	}
	t.Logf("seed %s after %.1f s, replayed twice in %d bytes: %.160s", seed, took.Seconds(), len(first), first[i:])
}

// apply returns the file with the fault in it.
func (p *plant) apply(root string) ([]byte, error) {
	source, err := os.ReadFile(filepath.Join(root, p.file))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(source, []byte(p.old)); n != 1 {
		return nil, fmt.Errorf("%s has the place %d times", p.file, n)
	}
	return bytes.Replace(source, []byte(p.old), []byte(p.new), 1), nil
}

// build compiles this test with the fault in it, and leaves the tree as it is.
func (p *plant) build(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	path, changed := filepath.Join(root, p.file), filepath.Join(dir, "changed.go")
	text, err := p.apply(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(changed, text, 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "sim.test")
	if out, code := command(t, 5*time.Minute, "go", "test", "-c", "-vet=off", "-overlay", list, "-o", binary, "./."); code != 0 {
		t.Fatalf("does not build: %s", out)
	}
	return binary
}

func command(t *testing.T, patience time.Duration, name string, args ...string) (out []byte, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return out, exit.ExitCode()
	}
	if err != nil {
		return fmt.Append(out, err), -1
	}
	return out, 0
}

func tail(out []byte) []byte { return out[max(0, len(out)-2000):] }
