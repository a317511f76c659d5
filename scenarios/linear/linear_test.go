package linear

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/linear"
	"github.com/hierarchy-bus/hierarchy/scenarios/rig"
)

var (
	total    = flag.Int64("calls", 2500, "calls of the clients; those that nobody answered count besides")
	seed     = flag.Uint64("seed", 1, "of the clients and of the faults; when they meet is up to the machine")
	entities = flag.Int("entities", 24, "that the clients work on")
	kept     = flag.String("artefacts", "", "directory for what a failure leaves; default: that of the system for temporary files")
)

func TestMain(m *testing.M) { rig.Main(m) }

// fault is one that heals by itself before it returns.
type fault struct {
	name  string
	after func(*chaos)
}

// chaos breaks one thing after another.
type chaos struct {
	*rig.Rig
	roles map[string]*rig.Process
	rng   *rand.Rand
	nc    *nats.Conn
	n     map[string]int
}

var faults = []fault{
	{"resolver killed", func(c *chaos) { c.bounce(c.any("r1", "r2")) }},
	{"executor killed", func(c *chaos) { c.bounce(c.any("x1", "x2")) }},
	{"submitter killed", func(c *chaos) { c.bounce(c.any("s1", "s2")) }},
	{"resolver stopped", func(c *chaos) { c.nap(c.any("r1", "r2"), 200*time.Millisecond, 6*time.Second) }},
	{"executor stopped", func(c *chaos) { c.nap(c.any("x1", "x2"), 200*time.Millisecond, 5*time.Second) }},
	{"stream leader stepped down", func(c *chaos) { c.stepDown() }},
	{"stream leader stepped down", func(c *chaos) { c.stepDown() }},
	{"server stopped", func(c *chaos) { c.nap(c.node(), 200*time.Millisecond, 7*time.Second) }},
	{"server killed", func(c *chaos) { c.bounce(c.node()) }},
}

// bounce kills a process and starts it again a moment later.
func (c *chaos) bounce(p *rig.Process) {
	p.Kill()
	c.pass(100*time.Millisecond, 1500*time.Millisecond)
	p.Start()
}

// nap stops a process for a while, which it does not notice.
func (c *chaos) nap(p *rig.Process, atLeast, atMost time.Duration) {
	p.Signal(syscall.SIGSTOP)
	c.pass(atLeast, atMost)
	p.Signal(syscall.SIGCONT)
}

func (c *chaos) pass(atLeast, atMost time.Duration) {
	rig.After(c.T, atLeast+time.Duration(c.rng.Int64N(int64(atMost-atLeast))))
}

func (c *chaos) any(names ...string) *rig.Process { return c.roles[names[c.rng.IntN(len(names))]] }

func (c *chaos) node() *rig.Process { return c.Nodes[c.rng.IntN(len(c.Nodes))].Process }

func (c *chaos) stepDown() {
	streams := []string{bus.StreamJournal, bus.StreamIntake, bus.StreamWork, "KV_OPS_OPERATIONS", "KV_OPS_ENTITIES"}
	// Whether it did is of no interest: there may be no leader at the moment.
	_, _ = c.nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+streams[c.rng.IntN(len(streams))], nil, time.Second)
}

// String counts what happened.
func (c *chaos) String() string {
	var all []string
	done := map[string]bool{}
	for _, f := range faults {
		if c.n[f.name] > 0 && !done[f.name] {
			done[f.name] = true
			all = append(all, fmt.Sprintf("%d %s", c.n[f.name], f.name))
		}
	}
	return strings.Join(all, ", ")
}

// Whatever breaks, a client that reads from the leader sees one register.
func TestClientsSeeARegisterWhateverBreaks(t *testing.T) {
	r := rig.New(t, rig.Options{Nodes: 3})
	c := &chaos{Rig: r, roles: map[string]*rig.Process{}, n: map[string]int{}, nc: r.Dial()}
	c.rng = rand.New(rand.NewPCG(*seed, 99)) //nolint:gosec // reproducible on purpose
	for _, p := range append(r.Roles(), r.Role("submitter", "s2")) {
		c.roles[p.Name()] = p
	}
	w := linear.Workload{Clients: 48, Entities: *entities, Calls: *total, Seed: *seed, Name: "l", Patience: 5 * time.Second}
	for i := range 6 { // two of each server, which find another one when theirs goes away
		w.Conns = append(w.Conns, r.DialTo(r.Nodes[i%3].URL()+","+r.URLs(), nats.DontRandomize()))
	}
	r.Eventually(60*time.Second, "the first answer", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		m := nats.NewMsg(bus.APISubject("submit"))
		m.Data = []byte(`{"op_type":"create_entity","target_entity_id":"first"}`)
		m.Header.Set("Ops-Wait", "done")
		a, err := c.nc.RequestMsgWithContext(ctx, m)
		return err == nil && strings.Contains(string(a.Data), "SUCCEEDED")
	})

	rec, began := linear.NewRecorder(), time.Now()
	done := make(chan error, 1)
	go func() { done <- w.Run(t.Context(), rec) }()
	stop := progress(rec, c)
	err := c.until(done)
	stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d, %s: %s", *seed, time.Since(began).Round(time.Second), c)

	result, err := linear.Check(rec.History(), 2*time.Minute, *kept)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(result)
	if !result.OK() {
		t.Error("no register could have answered so")
	}
	if least := int(*total) / 20; result.Verdicts[linear.Applied] < least || result.Reads < 4*least {
		t.Errorf("the run proves nothing: fewer than %d operations applied, or %d reads", least, 4*least)
	}
	counted, _, _ := strings.Cut(r.CLI(0, "verify", "--quiescent", "--patience", "60s"), "\n")
	t.Log(counted)
}

// until breaks things until the clients are done.
func (c *chaos) until(done <-chan error) error {
	order := c.rng.Perm(len(faults))
	for i := 0; ; i++ {
		if i == len(order) {
			i, order = 0, c.rng.Perm(len(faults))
		}
		pause := time.NewTimer(time.Second + time.Duration(c.rng.Int64N(int64(2*time.Second))))
		select {
		case err := <-done:
			pause.Stop()
			return err
		case <-pause.C:
		}
		f := faults[order[i]]
		c.n[f.name]++
		f.after(c)
	}
}

// progress prints a line now and then until it is stopped.
func progress(rec *linear.Recorder, c *chaos) (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				fmt.Fprintf(os.Stderr, "linear: %s  %d of %d calls\n", rec.Now().Round(time.Second), rec.Len(), *total)
			}
		}
	}()
	return func() { close(quit); <-ended }
}
