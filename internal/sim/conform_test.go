package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
)

// The model is compared with a real server of one node, or of three, call by call,
// through the very interface that the resolver uses and with bare publishes beside
// it.
//
// What cannot be compared so: when a leader changes and what becomes of a write
// meanwhile, which is a matter of timing that no two runs share; answers of a
// leader that was deposed; the code that a stream gives when two writes of one
// subject meet (10164), which needs two at the same instant; the order in which
// one emitter's messages are stored, which are all under way at once, so that
// their sequences are not compared; and when work comes back. Those are in the
// model as research has measured them, with every time that was ever seen.

var (
	flagScripts    = flag.Int("sim.scripts", 40, "how many random scripts of log calls are compared with a real server")
	flagReplicated = flag.Bool("sim.replicated", false, "compare with three servers instead of one, which takes longer")
)

const (
	conformParts = 3
	conformCalls = 200
)

// side is the model or the server.
type side struct {
	resolver.Log
	outboxes [2]resolver.Outbox
	policy   func(ctx context.Context) ([]byte, uint64, error)
	feed     func(p int, after uint64) string
	do       func(f func())
}

// onServer has the emitter of a real bus.
type onServer struct{ *bus.Bus }

func (s onServer) Outbox() resolver.Outbox { return s.NewEmitter() }

// connect starts one server, or three, for as long as the test.
func connect(t *testing.T) *nats.Conn {
	t.Helper()
	var dial func(...nats.Option) (*nats.Conn, error)
	if *flagReplicated {
		c, err := natsd.StartCluster(3, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Stop)
		dial = c.Connect
	} else {
		srv, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Port: natsd.NoListener})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(srv.Stop)
		dial = srv.Connect
	}
	nc, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func serverSide(t *testing.T) *side {
	t.Helper()
	nc := connect(t)
	layout := bus.DefaultLayout()
	layout.Partitions, layout.Storage = conformParts, jetstream.MemoryStorage
	if *flagReplicated {
		layout.Replicas = 3
	}
	if _, err := bus.Setup(t.Context(), nc, layout); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	s := &side{Log: onServer{b}, policy: b.Policy, do: func(f func()) { f() }}
	s.outboxes = [2]resolver.Outbox{s.Outbox(), s.Outbox()}
	s.feed = func(p int, after uint64) string {
		last, err := b.LastIntake(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		feed, err := b.Intake(ctx, p, after)
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for at := after; at < last; {
			m := <-feed.C()
			at = m.Seq
			fmt.Fprintln(&all, m.Seq, m.Kind, m.Key, string(m.Data))
		}
		return all.String()
	}
	return s
}

func modelSide() *side {
	k := newKernel(1)
	c := &client{newCluster(k, conformParts, &Stats{})}
	for _, s := range append(c.all(), c.buckets["OPS_DEAD"]) {
		s.replicated = *flagReplicated
	}
	p := &process{k: k, name: "m", begin: func() {}}
	p.start()
	s := &side{Log: c, policy: c.Policy}
	s.do = func(f func()) {
		over := false
		p.scope.spawn(func(*task) { f(); over = true })
		for !over {
			k.step()
		}
	}
	s.do(func() { s.outboxes = [2]resolver.Outbox{c.Outbox(), c.Outbox()} })
	s.feed = func(part int, after uint64) string {
		var all strings.Builder
		prefix := strings.TrimSuffix(intakeFilter(part), ">")
		for _, m := range c.intake.behind(prefix, after, 1<<30) {
			in := intakeMsg(m)
			fmt.Fprintln(&all, in.Seq, in.Kind, in.Key, string(in.Data))
		}
		return all.String()
	}
	return s
}

// script makes the same calls on both sides and says what each answered.
type script struct {
	rng    *rand.Rand
	n      int
	tips   [conformParts][]uint64 // sequences of the journal that both gave
	ids    [conformParts][]string
	intake uint64
	ended  [conformParts]uint64 // trimmed up to here
	order  uint64
	steps  uint64
}

// call draws one call: it answers as text.
func (s *script) call() (name string, run func(ctx context.Context, on *side) string) {
	p, tag := s.rng.IntN(conformParts), "v"+strconv.Itoa(s.n)
	s.n++
	kind := s.rng.IntN(15)
	if (kind == 4 || kind >= 13) && s.rng.IntN(10) > 0 {
		kind = 0 // they need a consumer and take long
	}
	switch kind {
	case 0, 1, 2:
		return s.append(p, tag)
	case 3:
		return "journal last", func(ctx context.Context, on *side) string {
			e, ok, err := on.JournalLast(ctx, p)
			return fmt.Sprint(e.Seq, e.Subject, e.ID, string(e.Data), ok, err)
		}
	case 4:
		after := uint64(0)
		if n := len(s.tips[p]); n > 0 {
			after = s.tips[p][max(0, n-1-s.rng.IntN(40))]
		}
		return "journal read", func(ctx context.Context, on *side) string {
			var all strings.Builder
			for e, err := range on.JournalRead(ctx, p, after) {
				fmt.Fprintln(&all, e.Seq, e.Partition, e.ID, string(e.Data), err)
			}
			return all.String()
		}
	case 5, 6, 7:
		return s.publish(tag)
	case 8, 9:
		return s.emit(tag)
	case 10:
		return "views", func(ctx context.Context, on *side) string {
			var all strings.Builder
			for i := range 4 {
				data, found, err := on.Entity(ctx, "k"+strconv.Itoa(i))
				fmt.Fprintln(&all, string(data), found, err)
				data, found, err = on.Record(ctx, "k"+strconv.Itoa(i))
				fmt.Fprintln(&all, string(data), found, err)
			}
			mark, err := on.Mark(ctx, p)
			return fmt.Sprint(all.String(), mark, err)
		}
	case 11:
		return "intake", func(ctx context.Context, on *side) string {
			last, err := on.LastIntake(ctx, p)
			end, err2 := on.IntakeEnd(ctx)
			return fmt.Sprint(last, err, end, err2)
		}
	case 12:
		upTo := s.ended[p] + uint64(s.rng.IntN(6))
		s.ended[p] = min(upTo, s.intake)
		return "trim", func(ctx context.Context, on *side) string {
			err := on.TrimIntake(ctx, p, upTo)
			last, err2 := on.LastIntake(ctx, p)
			return fmt.Sprint(err, last, err2)
		}
	case 13:
		s.steps += uint64(s.rng.IntN(3))
		step := max(1, s.steps) - uint64(s.rng.IntN(2))
		return "snapshot", func(ctx context.Context, on *side) string {
			err := on.SaveSnapshot(ctx, p, step, 10*step, []byte(tag))
			at, seq, data, ok, err2 := on.LoadSnapshot(ctx, p)
			return fmt.Sprint(err, at, seq, string(data), ok, err2)
		}
	}
	after := s.ended[p]
	return "feed", func(_ context.Context, on *side) string { return on.feed(p, after) }
}

// append draws an append: behind the end, behind something older, or of a step
// that was appended before.
func (s *script) append(p int, tag string) (string, func(context.Context, *side) string) {
	expected, id := uint64(0), tag
	if n := len(s.tips[p]); n > 0 {
		switch i := n - 1 - s.rng.IntN(min(n, 30)); s.rng.IntN(4) {
		case 0:
			expected = s.tips[p][i]
		case 1: // its own answer was lost
			if id = s.ids[p][i]; i > 0 {
				expected = s.tips[p][i-1]
			}
		default:
			expected = s.tips[p][n-1]
		}
	}
	return "append", func(ctx context.Context, on *side) string {
		seq, out, err := on.JournalAppend(ctx, p, id, []byte(tag), expected)
		if n := len(s.tips[p]); out == bus.Committed && (n == 0 || seq > s.tips[p][n-1]) {
			s.tips[p], s.ids[p] = append(s.tips[p], seq), append(s.ids[p], id)
		}
		return fmt.Sprint(seq, out, err)
	}
}

// publish draws a bare publish: with an id, an expected sequence, both or none.
func (s *script) publish(tag string) (string, func(context.Context, *side) string) {
	key := "k" + strconv.Itoa(s.rng.IntN(6))
	subject := []string{
		bus.SubmitSubject(key), bus.CancelSubject(key), bus.BulkSubject(key), "ops.control." + strconv.Itoa(s.rng.IntN(9)), bus.FollowSubject(key),
		"$KV.OPS_DEAD." + key, "$KV.OPS_DEAD." + key, bus.EventSubject("operation.started", key),
	}[s.rng.IntN(8)]
	id, header := "", nats.Header{}
	if s.rng.IntN(2) == 0 {
		id = "id-" + strconv.Itoa(s.n/10) + strconv.Itoa(s.rng.IntN(3))
	}
	bucket := strings.HasPrefix(subject, "$KV")
	if bucket && s.rng.IntN(3) > 0 {
		header.Set(headerExpected, strconv.Itoa(s.rng.IntN(s.n/20+3)))
	}
	return "publish " + subject + " " + id, func(ctx context.Context, on *side) string {
		ack, err := on.Publish(ctx, subject, []byte(tag), id, header)
		var api *jetstream.APIError
		var no refusal
		code := 0
		switch {
		case errors.As(err, &api):
			code = int(api.ErrorCode)
		case errors.As(err, &no):
			code = int(no)
		case err != nil:
			return err.Error()
		}
		if code != 0 {
			return strconv.Itoa(code)
		}
		if ack.Stream == bus.StreamIntake {
			s.intake = ack.Seq
		}
		return fmt.Sprint(ack.Stream, ack.Seq, ack.Duplicate)
	}
}

// emit draws outputs of one or two owners, of steps that need not follow each
// other.
func (s *script) emit(tag string) (string, func(context.Context, *side) string) {
	which, n := s.rng.IntN(2), 1+s.rng.IntN(5)
	s.order += uint64(s.rng.IntN(3))
	order := 1 + s.order - min(s.order, uint64(s.rng.IntN(4)))
	part, kinds := s.rng.IntN(conformParts), make([]int, n)
	for i := range kinds {
		kinds[i] = s.rng.IntN(16)
	}
	return "emit", func(ctx context.Context, on *side) string {
		o := on.outboxes[which]
		for i, kind := range kinds {
			o.At(order + uint64(i))
			value := fmt.Appendf(nil, "%s of %d", tag, i)
			switch key := "k" + strconv.Itoa(kind%4); kind / 4 {
			case 0:
				o.Add(bus.EntityMsg(key, value))
			case 1:
				o.Add(bus.RecordMsg(key, value))
			case 2:
				o.Add(bus.MarkMsg(part, order))
			case 3:
				o.Add(bus.EventMsg(bus.EventSubject("operation.failed", key), tag+strconv.Itoa(i%2), value))
			}
		}
		return fmt.Sprint(o.Flush(ctx))
	}
}

func TestTheModelAnswersAsAServerDoes(t *testing.T) {
	scripts := *flagScripts
	if testing.Short() {
		scripts = min(scripts, 20)
	}
	server, model := serverSide(t), modelSide()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	s := &script{}
	calls := map[string]int{}
	for seed := range scripts {
		s.rng = rand.New(rand.NewPCG(uint64(seed), 2))
		for i := range conformCalls {
			name, run := s.call()
			want := run(ctx, server)
			var got string
			model.do(func() { got = run(ctx, model) })
			if got != want {
				t.Fatalf("script %d, call %d, %s:\nserver %s\nmodel  %s", seed, i, name, want, got)
			}
			kind, _, _ := strings.Cut(name, " ops")
			calls[strings.Fields(kind)[0]]++
		}
	}
	t.Logf("%d scripts of %d calls: %v", scripts, conformCalls, calls)
}
