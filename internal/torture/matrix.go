package torture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
)

// Cell is one failpoint with one action.
type Cell struct {
	Point  string           `json:"point"`
	Action failpoint.Action `json:"action"`
	Wanted int              `json:"wanted"`
	Hit    int              `json:"hit"`    // how often the process really died, or stopped, there
	Missed int              `json:"missed"` // processes that never came by
}

// Matrix drives processes into every chosen failpoint with every action, so many
// times each, while the load goes on and other processes of the same roles serve.
// Each process is armed with one point; when it has died there, and was seen to,
// the next one takes its place.
func Matrix(ctx context.Context, o Options) (*Report, error) {
	if o.Server {
		return nil, errors.New("torture: the matrix is for a system of its own")
	}
	if o.Partitions == 0 {
		o.Partitions = 16 // something to own for each of many resolvers
	}
	return torture(ctx, o, func(ctx context.Context, r *run) error {
		if err := r.team(3, 2, 1); err != nil {
			return err
		}
		if err := r.load.prepare(ctx, r.ledger); err != nil {
			return err
		}
		m := newMatrix(r.site)
		if len(m.cells) == 0 {
			return errors.New("torture: no failpoint has such a name")
		}
		r.enter("matrix", m.progress)
		r.also, r.doomed = m.judge, victimName.MatchString
		return r.under(ctx, m.run)
	})
}

// judge adds the cells to the report. One that was not reached as often as wanted
// fails the run.
func (m *matrix) judge(rep *Report) {
	rep.Matrix = m.result()
	for _, c := range rep.Matrix {
		if c.Hit < c.Wanted {
			rep.fail("%s=%s was hit %d of %d times", c.Point, c.Action, c.Hit, c.Wanted)
		}
	}
}

// matrix is the work of a matrix: queues of cells, one a role.
type matrix struct {
	*site
	cells []*Cell
	todo  map[string][]*Cell // by role; a cell stands there once for each repetition

	mu sync.Mutex
}

func newMatrix(s *site) *matrix {
	m := &matrix{site: s, todo: map[string][]*Cell{}}
	for _, p := range failpoint.All() {
		if s.Points != nil && !s.Points.MatchString(p.Name) {
			continue
		}
		for _, a := range s.Actions {
			if !slices.Contains(p.Actions(), a) {
				continue
			}
			c := &Cell{Point: p.Name, Action: a, Wanted: s.Repeat}
			m.cells = append(m.cells, c)
			m.todo[p.Role] = append(m.todo[p.Role], slices.Repeat([]*Cell{c}, s.Repeat)...)
		}
	}
	for role, cells := range m.todo {
		source(s.Seed, "matrix "+role).Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	}
	return m
}

// lanes is how many processes of a role are driven at once.
func (m *matrix) lanes(role string) int {
	switch role {
	case partResolver:
		return m.Lanes
	case partExecutor, partSubmitter:
		return 2
	}
	return 1
}

// run works through the queues until they are empty.
func (m *matrix) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, role := range []string{partResolver, partExecutor, partSubmitter, partOperator} {
		for i := range m.lanes(role) {
			wg.Go(func() { m.lane(ctx, role, i) })
		}
	}
	wg.Go(func() { m.setups(ctx) })
	wg.Wait()
}

// take is the next cell of a role; nil: none is left.
func (m *matrix) take(role string) *Cell {
	m.mu.Lock()
	defer m.mu.Unlock()
	cells := m.todo[role]
	if len(cells) == 0 {
		return nil
	}
	m.todo[role] = cells[1:]
	return cells[0]
}

func (m *matrix) count(c *Cell, hit bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if hit {
		c.Hit++
		m.hit(c.Point + " " + string(c.Action))
	} else {
		c.Missed++
	}
}

func (m *matrix) progress() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	left, all := 0, 0
	for _, cells := range m.todo {
		left += len(cells)
	}
	for _, c := range m.cells {
		all += c.Wanted
	}
	return 1 - float64(left)/float64(max(all, 1))
}

func (m *matrix) result() []Cell {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Cell
	for _, c := range m.cells {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b Cell) int {
		return cmp.Or(cmp.Compare(a.Point, b.Point), cmp.Compare(a.Action, b.Action))
	})
	return all
}

// tries is how many processes are driven towards a point before it counts as
// unreachable.
const tries = 8

// victimName is what the names of the processes of a lane look like.
var victimName = regexp.MustCompile(`-lane\d+-`)

// lane drives one process after another into the points of a role.
func (m *matrix) lane(ctx context.Context, role string, i int) {
	base := fmt.Sprintf("%s-lane%d", role, i+1)
	rng := source(m.Seed, base)
	for n := 1; ctx.Err() == nil; n++ {
		c := m.take(role)
		if c == nil {
			return
		}
		for try := range tries {
			depth := depthOf(c.Point)
			if try > 0 {
				depth = 1
			}
			v := victim{matrix: m, cell: c, rng: rng, name: fmt.Sprintf("%s-%d-%d", base, n, try), at: 1 + rng.IntN(depth)}
			hit := v.drive(ctx, m.roleArgs(role, v.name))
			if ctx.Err() != nil {
				return
			}
			m.count(c, hit)
			if hit {
				break
			}
		}
	}
}

func (m *matrix) roleArgs(role, name string) []string {
	args := []string{role, "--name", name, "--drain-timeout", "3s", "--server", m.url}
	switch role {
	case partResolver:
		args = append(args, resolverFlags()...)
	case partOperator:
		args = append(args, "--every", "200ms")
	}
	return args
}

// depthOf is up to which hit of a point a process is driven: what comes by often
// is met at another moment each time.
func depthOf(point string) int {
	switch point[:len(point)-len(suffix(point))] {
	case "bus.member.join", "bus.member.leave", "bus.policy.refuse", "bus.event.publish", "bus.emit.dead", "bus.emit.follow",
		"bus.emit.control", "bus.control.publish":
		return 1
	case "bus.snapshot.put", "bus.snapshot.point", "bus.snapshot.drop", "bus.intake.trim", "bus.member.beat", "bus.bulk.publish", "bus.cancel.publish":
		return 3
	}
	return 15
}

func suffix(point string) string {
	for _, s := range []string{".before", ".after"} {
		if len(point) > len(s) && point[len(point)-len(s):] == s {
			return s
		}
	}
	return ""
}

// victim is one process on its way to its point.
type victim struct {
	*matrix
	cell *Cell
	rng  *rand.Rand
	name string
	at   int
}

// reach is how long a process may take to come by its point.
const reach = 15 * time.Second

// drive starts the process and reports whether it met its end, or its stop, at the
// point.
func (v *victim) drive(ctx context.Context, args []string) bool {
	p, err := v.spawn(v.name, args, failpoint.Term(v.cell.Point, v.cell.Action, v.at))
	if err != nil {
		v.surprise("%v", err)
		return false
	}
	defer func() {
		p.signal(syscall.SIGCONT)
		p.kill()
		_ = p.hold.Close()
	}()
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	asked := v.provoke(ctx, p)
	select {
	case <-p.tail.hit:
	case <-p.done:
		select {
		case <-p.tail.hit:
		default:
			if !asked {
				v.surprise("%s ended by itself: %s\n%s", p.name, p.cmd.ProcessState, lastLines(p.tail.last(), 12))
			}
			return false
		}
	case <-ctx.Done():
		return false
	}
	if want := v.cell.Point + " " + string(v.cell.Action); p.tail.acted() != want {
		v.surprise("%s: %q acted instead of %q", p.name, p.tail.acted(), want)
		return false
	}
	switch v.cell.Action {
	case failpoint.Stop:
		return v.sleep(ctx, p)
	case failpoint.Error: // it goes on, or gives up in order
		rest(ctx, time.Second)
		if p.ended() && p.cmd.ProcessState.ExitCode() == exitPanic {
			v.surprise("%s did not survive an error at %s: %s\n%s", p.name, v.cell.Point, p.cmd.ProcessState, lastLines(p.tail.last(), 12))
			return false
		}
		return true
	case failpoint.Kill, failpoint.Panic:
	}
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		v.surprise("%s is alive 5 s after %s", p.name, p.tail.acted())
		return false
	}
	if p.died() != v.cell.Action {
		v.surprise("%s should have died of %s, and: %s", p.name, v.cell.Action, p.cmd.ProcessState)
		return false
	}
	return true
}

// provoke does what a process needs to come by a point that it does not pass by
// itself. It reports whether the process has been asked to end.
func (v *victim) provoke(ctx context.Context, p *process) (asked bool) {
	wait := func(d time.Duration) bool {
		select {
		case <-time.After(d):
			return true
		case <-p.tail.hit:
		case <-p.done:
		case <-ctx.Done():
		}
		return false
	}
	switch v.cell.Point {
	case "bus.member.leave.before", "bus.member.leave.after":
		if wait(drawTime(v.rng, 400*time.Millisecond, 1500*time.Millisecond)) {
			p.signal(syscall.SIGTERM)
		}
		return true
	case "bus.event.publish.before", "bus.event.publish.after":
		// It owns something, sleeps past its lease, and finds itself deposed.
		for wait(1500 * time.Millisecond) {
			p.signal(syscall.SIGSTOP)
			wait(roleLease + 2*time.Second)
			p.signal(syscall.SIGCONT)
		}
	}
	return false
}

// sleep checks that a process has stopped itself, and that it goes on: half of the
// times after its lease has run out.
func (v *victim) sleep(ctx context.Context, p *process) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; !p.stopped(); n++ {
		if n == 400 || p.ended() {
			v.surprise("%s has not stopped at %s: %s", p.name, v.cell.Point, p.cmd.ProcessState)
			return false
		}
		<-tick.C
	}
	pause := 200 * time.Millisecond
	if v.rng.IntN(2) == 0 {
		pause = roleLease + drawTime(v.rng, 500*time.Millisecond, 2*time.Second)
	}
	rest(ctx, pause)
	p.signal(syscall.SIGCONT)
	select {
	case <-p.done:
		if p.cmd.ProcessState.ExitCode() != 0 {
			v.surprise("%s did not survive its stop at %s: %s\n%s", p.name, v.cell.Point, p.cmd.ProcessState, lastLines(p.tail.last(), 12))
			return false
		}
	case <-time.After(200 * time.Millisecond):
	}
	return true
}
