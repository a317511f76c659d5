package machine

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/scenarios/rig"
)

// powered is a rig whose servers each have a disk of their own.
type powered struct {
	*rig.Rig
	disks []*rig.Disk
	roles []*rig.Process
}

func newPowered(t *testing.T, always bool) *powered {
	t.Helper()
	p := &powered{}
	for range 3 {
		p.disks = append(p.disks, rig.NewDisk(t, 512))
	}
	p.Rig = rig.New(t, rig.Options{Nodes: 3, SyncAlways: always, Dir: func(i int) string { return p.disks[i].Path }})
	p.roles = p.Roles()
	return p
}

// cut takes the power from nodes, and after a moment gives it back. Everything stops
// first: what a node has answered by then is what counts. In between, meanwhile is done.
func (p *powered) cut(meanwhile func(), nodes ...int) {
	p.T.Helper()
	for _, i := range nodes {
		p.Nodes[i].Signal(syscall.SIGSTOP)
	}
	for _, i := range nodes {
		p.disks[i].CutPower()
		p.Nodes[i].Kill()
	}
	for _, i := range nodes {
		p.disks[i].Remount()
	}
	meanwhile()
	for _, i := range nodes {
		p.Nodes[i].Start()
	}
}

// pause is how long the power is away where nobody can work.
func (p *powered) pause() { rig.After(p.T, 500*time.Millisecond) }

func (p *powered) judge(report *rig.Report, book *rig.Book, atLeast int) {
	book.AwaitMore(100, 60*time.Second)
	report.Balance = book.Settle()
	report.Verify(p.Rig, book)
	report.Tell(p.Rig)
	report.Demand(p.Rig, atLeast)
}

func setting(always bool) string {
	if always {
		return "3 servers, sync_interval always"
	}
	return "3 servers, default sync_interval"
}

// The power of all servers fails at once, again and again, each time under load; in
// every other round that of the roles, too. What was acknowledged is there.
func TestPowerCutOfAllNodes(t *testing.T) {
	rounds := times(1, 10)
	p := newPowered(t, true)
	report := rig.Report{Fault: "power cut of all nodes at once", Setting: setting(true), Repetitions: rounds}
	book := p.Load("all", 16, p.Dial(), p.Dial())
	for round := range rounds {
		book.AwaitMore(200, 60*time.Second)
		if round%2 == 1 {
			for _, role := range p.roles {
				role.Kill()
			}
		}
		p.cut(p.pause, 0, 1, 2)
		if round%2 == 1 {
			for _, role := range p.roles {
				role.Start()
			}
		}
		report.Back = max(report.Back, book.AwaitMore(1, 90*time.Second))
	}
	p.judge(&report, book, 200*rounds)
}

// The power of one server after the other fails, with its disk; the other two go on.
func TestPowerCutOfOneNode(t *testing.T) {
	onlyLong(t)
	const rounds = 12
	p := newPowered(t, true)
	report := rig.Report{Fault: "power cut of one node", Setting: setting(true), Repetitions: rounds}
	book := p.Load("one", 16, p.Dial(), p.Dial())
	for round := range rounds {
		book.AwaitMore(200, 60*time.Second)
		// The power comes back when the other two have gone on.
		p.cut(func() { p.pause(); book.AwaitMore(1, 30*time.Second) }, round%3)
		report.Back = max(report.Back, book.AwaitMore(1, 60*time.Second))
		healthy(p.Rig, 60*time.Second) // one at a time: two of three would be another fault
	}
	p.judge(&report, book, 200*rounds)
}

// With the server's default, which syncs every two minutes, the same power cut loses
// what was acknowledged. That is told, not judged: it is why setup and doctor warn.
func TestPowerCutWithTheDefaultSync(t *testing.T) {
	onlyLong(t)
	p := newPowered(t, false)
	report := rig.Report{Fault: "power cut of all nodes at once", Setting: setting(false), Repetitions: 1}
	book := p.Load("def", 16, p.Dial(), p.Dial())
	book.AwaitMore(500, 60*time.Second)
	book.Stop()
	p.cut(p.pause, 0, 1, 2)
	report.Balance = book.Settle()
	_, said, code := p.Ask("verify")
	said, _, _ = strings.Cut(strings.TrimSpace(said), "\n")
	report.Note = fmt.Sprintf("the contrast, which is expected to lose: told, not judged; hierarchy verify exits %d: %s", code, said)
	report.Tell(p.Rig)
}
