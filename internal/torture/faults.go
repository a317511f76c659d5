package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
)

// Fault is something that was done to the system.
type Fault struct {
	After time.Duration `json:"after"` // since the load began, in nanoseconds
	Kind  string        `json:"kind"`
	Text  string        `json:"text"`
}

// kind is one kind of fault. draw takes everything that is random about it from
// rng at once, so that the sequence follows from the seed whatever the timing; what
// it returns does it, and returns when it is over.
type kind struct {
	name   string
	weight int
	draw   func(d *devil, rng *rand.Rand) (text string, do func(context.Context) error)
	server bool // it hurts servers: only one of these at a time
	own    bool // only on a system that is ours
	many   bool // only with several servers and replicas
}

var kinds = []kind{
	{name: "kill", weight: 20, draw: drawKill},
	{name: "stop", weight: 14, draw: drawStop},
	{name: "term", weight: 8, draw: drawTerm},
	{name: "failpoint", weight: 24, draw: drawPoint},
	{name: "roles-kill", weight: 2, draw: drawAll},
	{name: "roles-rolling", weight: 2, draw: drawRolling},
	{name: "server-kill", weight: 8, draw: drawServerKill, server: true, own: true},
	{name: "server-stop", weight: 4, draw: drawServerStop, server: true, own: true},
	{name: "server-term", weight: 4, draw: drawServerTerm, server: true, own: true},
	{name: "servers-kill", weight: 2, draw: drawServersKill, server: true, own: true, many: true},
	{name: "servers-rolling", weight: 2, draw: drawServersRolling, server: true, own: true, many: true},
	{name: "everything-kill", weight: 1, draw: drawEverything, server: true, own: true},
	{name: "stream-step-down", weight: 10, draw: drawStepDown, many: true},
	{name: "consumer-step-down", weight: 4, draw: drawConsumerDown, many: true},
}

// devil does faults.
type devil struct {
	*site
	begun   time.Time
	servers chan struct{} // a token: taken while a server is hurt
	wg      sync.WaitGroup

	mu   sync.Mutex
	done []Fault
}

func newDevil(s *site) *devil { return &devil{site: s, servers: make(chan struct{}, 1)} }

// run does faults until ctx ends, and waits until the last ones are over.
func (d *devil) run(ctx context.Context) {
	rng := source(d.Seed, "faults")
	var possible []kind
	total := 0
	for _, k := range kinds {
		if k.own && d.Server || k.many && d.bus.Layout().Replicas == 1 {
			continue
		}
		possible = append(possible, k)
		total += k.weight
	}
	slots := make(chan struct{}, d.Overlap)
	defer d.wg.Wait()
	for {
		n := rng.IntN(total)
		i := slices.IndexFunc(possible, func(k kind) bool { n -= k.weight; return n < 0 })
		k := possible[i]
		text, do := k.draw(d, rng)
		pause := 200*time.Millisecond + time.Duration(rng.Int64N(int64(1500*time.Millisecond)))
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		d.wg.Go(func() {
			defer func() { <-slots }()
			d.do(ctx, k, text, do)
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (d *devil) do(ctx context.Context, k kind, text string, do func(context.Context) error) {
	if k.server {
		select {
		case <-ctx.Done():
			return
		case d.servers <- struct{}{}:
		}
		defer func() { <-d.servers }()
	}
	d.note(k.name, text)
	if err := do(ctx); err != nil && ctx.Err() == nil {
		d.Say(fmt.Sprintf("        %-18s %s: %v", k.name, text, err))
	}
}

func (d *devil) note(kind, text string) {
	f := Fault{After: time.Since(d.begun), Kind: kind, Text: text}
	d.mu.Lock()
	d.done = append(d.done, f)
	d.mu.Unlock()
	d.Say(fmt.Sprintf("%6.1fs %-18s %s", f.After.Seconds(), kind, text))
}

// faults returns what was done so far.
func (d *devil) faults() []Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.done)
}

// rest waits for a while that ctx may cut short.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// between draws a duration.
func drawTime(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}

func (d *devil) anyRole(rng *rand.Rand) *slot { return d.roles[rng.IntN(len(d.roles))] }

func drawKill(d *devil, rng *rand.Rand) (string, func(context.Context) error) {
	v := d.anyRole(rng)
	return v.base, func(context.Context) error { v.end(syscall.SIGKILL); return nil }
}

func drawTerm(d *devil, rng *rand.Rand) (string, func(context.Context) error) {
	v := d.anyRole(rng)
	return v.base, func(ctx context.Context) error {
		return v.parted(ctx, v.end(syscall.SIGTERM))
	}
}

func drawStop(d *devil, rng *rand.Rand) (string, func(context.Context) error) {
	v, pause := d.anyRole(rng), drawTime(rng, 300*time.Millisecond, 6*time.Second)
	return fmt.Sprintf("%s for %.1fs", v.base, pause.Seconds()), func(ctx context.Context) error {
		p := v.current()
		p.signal(syscall.SIGSTOP)
		rest(ctx, pause)
		p.signal(syscall.SIGCONT)
		return nil
	}
}

// drawPoint has the next process of a role die, stop or fail at a named moment.
func drawPoint(d *devil, rng *rand.Rand) (string, func(context.Context) error) {
	v := d.anyRole(rng)
	points := pointsFor(v.role)
	if len(points) == 0 {
		return drawKill(d, rng)
	}
	p := points[rng.IntN(len(points))]
	action := p.Actions()[rng.IntN(len(p.Actions()))]
	hit, pause := 1+rng.IntN(depthOf(p.Name)), drawTime(rng, 300*time.Millisecond, 5*time.Second)
	term := failpoint.Term(p.Name, action, hit)
	return v.base + " " + term, func(ctx context.Context) error {
		v.arm(term)
		before := v.end(syscall.SIGKILL)
		<-before.done
		if action != failpoint.Stop {
			return nil
		}
		// Whoever stops itself has to be told to go on, whenever that will be.
		d.wg.Go(func() { d.wake(ctx, v, before, pause) })
		return nil
	}
}

// wake waits for the process that comes after before to stop itself, and has it go
// on after a pause.
func (d *devil) wake(ctx context.Context, v *slot, before *process, pause time.Duration) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	p := v.current()
	for p == before {
		select {
		case <-tick.C:
			p = v.current()
		case <-ctx.Done():
			return // healing starts everybody afresh
		}
	}
	select {
	case <-p.tail.hit:
		rest(ctx, pause)
		p.signal(syscall.SIGCONT)
	case <-p.done:
	case <-ctx.Done():
	}
}

// pointsFor lists the failpoints of a role.
func pointsFor(role string) []failpoint.Info {
	var points []failpoint.Info
	for _, p := range failpoint.All() {
		if p.Role == role {
			points = append(points, p)
		}
	}
	return points
}

func drawAll(d *devil, _ *rand.Rand) (string, func(context.Context) error) {
	return "all roles at once", func(context.Context) error {
		for _, v := range d.roles {
			v.end(syscall.SIGKILL)
		}
		return nil
	}
}

func drawRolling(d *devil, rng *rand.Rand) (string, func(context.Context) error) {
	order := rng.Perm(len(d.roles))
	return "all roles, one after another", func(ctx context.Context) error {
		for _, i := range order {
			v := d.roles[i]
			if err := v.parted(ctx, v.end(syscall.SIGTERM)); err != nil {
				return err
			}
			rest(ctx, 300*time.Millisecond)
		}
		return nil
	}
}

// streams are those whose leaders step down.
var streams = []string{
	bus.StreamIntake, bus.StreamJournal, bus.StreamWork, bus.StreamEvents,
	"KV_OPS_ENTITIES", "KV_OPS_OPERATIONS", "KV_OPS_MARKS", "KV_OPS_LEASES", "KV_OPS_CONFIG", "OBJ_OPS_SNAPSHOTS",
}

func drawStepDown(d *devil, rng *rand.Rand) (string, func(context.Context) error) {
	stream := streams[rng.IntN(len(streams))]
	return stream, func(ctx context.Context) error { return d.stepDown(ctx, "STREAM.LEADER.STEPDOWN."+stream) }
}

func drawConsumerDown(d *devil, _ *rand.Rand) (string, func(context.Context) error) {
	name := bus.StreamWork + "." + bus.WorkConsumer("default")
	return name, func(ctx context.Context) error { return d.stepDown(ctx, "CONSUMER.LEADER.STEPDOWN."+name) }
}

func (d *devil) stepDown(ctx context.Context, what string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := d.nc.RequestWithContext(ctx, "$JS.API."+what, nil)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	var a struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(r.Data, &a); err == nil && a.Error != nil {
		return fmt.Errorf("refused: %s", strings.ToLower(a.Error.Description))
	}
	return nil
}
