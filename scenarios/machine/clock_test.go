package machine

import (
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/scenarios/rig"
)

// Resolvers and executors whose clocks differ by hours, one of which jumps while they
// run, take over from each other again and again.
func TestClocksOfProcesses(t *testing.T) {
	onlyLong(t)
	const rounds = 10
	programs := rig.Skewable(t)
	r := rig.New(t, rig.Options{Nodes: 3, SyncAlways: true, Binaries: programs})
	report := rig.Report{
		Fault:   "clocks of roles: resolvers +1 h and -1 h, executors +10 min and -1 h jumping after 20 s; each resolver killed in turn",
		Setting: setting(true), Repetitions: rounds,
	}
	resolvers := []*rig.Process{
		r.RoleAt(r.URLs(), "resolver", "r1", rig.Skew(time.Hour, 0)),
		r.RoleAt(r.URLs(), "resolver", "r2", rig.Skew(-time.Hour, 0)),
	}
	r.RoleAt(r.URLs(), "executor", "x1", rig.Skew(10*time.Minute, 0))
	r.RoleAt(r.URLs(), "executor", "x2", rig.Skew(-time.Hour, 20*time.Second))
	book := r.Load("clkr", 16, r.Dial(), r.Dial())
	for round := range rounds {
		book.AwaitMore(200, 60*time.Second)
		resolvers[round%2].Kill() // the other one takes over what it has begun
		rig.After(t, 6*time.Second)
		resolvers[round%2].Start()
	}
	report.Back = book.AwaitMore(100, 60*time.Second)
	report.Balance = book.Settle()
	report.Verify(r, book)
	report.Tell(r)
	report.Demand(r, 200*rounds)
}

// The clock of one server is an hour ahead, that of another one jumps back by ten
// minutes while it runs, and each leads for a while.
func TestClocksOfServers(t *testing.T) {
	onlyLong(t)
	const rounds = 6
	programs := rig.Skewable(t)
	skew := [][]string{rig.Skew(time.Hour, 0), rig.Skew(-10*time.Minute, 25*time.Second), nil}
	r := rig.New(t, rig.Options{Nodes: 3, SyncAlways: true, Binaries: programs, Env: func(i int) []string { return skew[i] }})
	r.Roles()
	report := rig.Report{
		Fault:   "clocks of servers: one +1 h, one jumping by -10 min after 25 s; leaders killed in turn",
		Setting: setting(true), Repetitions: rounds,
	}
	book := r.Load("clks", 16, r.Dial(), r.Dial())
	for round := range rounds {
		book.AwaitMore(200, 60*time.Second)
		n := r.Nodes[leader(r, round)]
		n.Kill()
		report.Back = max(report.Back, book.AwaitMore(1, 60*time.Second))
		n.Start()
		healthy(r, 60*time.Second)
	}
	book.AwaitMore(100, 60*time.Second)
	report.Balance = book.Settle()
	found, code := compare(r)
	if code != 0 {
		t.Errorf("the copies differ: exit code %d, %+v", code, found)
	}
	report.Note = "all copies are the same afterwards"
	report.Verify(r, book)
	report.Tell(r)
	report.Demand(r, 200*rounds)
}
