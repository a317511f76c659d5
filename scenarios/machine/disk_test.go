package machine

import (
	"fmt"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/scenarios/rig"
)

// filled is a rig whose servers have small disks.
type filled struct {
	*rig.Rig
	disks []*rig.Disk
	book  *rig.Book
}

func newFilled(t *testing.T, name string) *filled {
	t.Helper()
	f := &filled{}
	for range 3 {
		f.disks = append(f.disks, rig.NewMemoryDisk(t, 256))
	}
	f.Rig = rig.New(t, rig.Options{Nodes: 3, SyncAlways: true, Dir: func(i int) string { return f.disks[i].Path }})
	f.Roles()
	f.book = f.Load(name, 16, f.Dial(), f.Dial())
	return f
}

// repair is what docs/reliability.md says: make room, then start the server again,
// which does not come back by itself.
func (f *filled) repair(nodes ...int) {
	for _, i := range nodes {
		f.disks[i].Free()
		f.Nodes[i].Kill()
	}
	for _, i := range nodes {
		f.Nodes[i].Start()
	}
}

func (f *filled) judge(report *rig.Report, atLeast int) {
	f.book.AwaitMore(100, 60*time.Second)
	report.Balance = f.book.Settle()
	report.Verify(f.Rig, f.book)
	report.Tell(f.Rig)
	report.Demand(f.Rig, atLeast)
}

// The disk of a leader is full: the others go on. Whether it says that it is not well
// is told, not demanded.
func TestDiskFullOnOneNode(t *testing.T) {
	rounds := times(1, 4)
	f := newFilled(t, "full1")
	report := rig.Report{Fault: "disk of a leader full, freed, server restarted", Setting: setting(true), Repetitions: rounds}
	told := 0
	for round := range rounds {
		f.book.AwaitMore(200, 60*time.Second)
		l := leader(f.Rig, round)
		f.disks[l].Fill()
		if rig.Wait(15*time.Second, func() bool { return health(t.Context(), f.Nodes[l]) != "ok" }) {
			told++
		}
		rig.After(t, time.Duration(times(5, 15))*time.Second)
		f.book.AwaitMore(1, 30*time.Second) // before it is mended: the others
		f.repair(l)
		report.Back = max(report.Back, f.book.AwaitMore(1, 60*time.Second))
		healthy(f.Rig, 90*time.Second)
	}
	report.Note = fmt.Sprintf("the server's /healthz told within 15 s in %d of %d", told, rounds)
	f.judge(&report, 200*rounds)
}

// The disks of all servers are full: nothing is promised, and nothing that was
// promised is lost.
func TestDiskFullOnAllNodes(t *testing.T) {
	onlyLong(t)
	const rounds = 3
	f := newFilled(t, "fulla")
	report := rig.Report{Fault: "disks of all nodes full for 15 s, freed, servers restarted", Setting: setting(true), Repetitions: rounds}
	for range rounds {
		f.book.AwaitMore(200, 60*time.Second)
		for _, d := range f.disks {
			d.Fill()
		}
		rig.After(t, 15*time.Second)
		f.repair(0, 1, 2)
		report.Back = max(report.Back, f.book.AwaitMore(1, 90*time.Second))
		healthy(f.Rig, 90*time.Second)
	}
	f.judge(&report, 200*rounds)
}
