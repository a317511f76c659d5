package machine

import (
	"fmt"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/scenarios/rig"
)

// parted is a rig in a network that can be cut, with the load of a test.
type parted struct {
	*rig.Rig
	net    *rig.Net
	book   *rig.Book
	report rig.Report
}

func newParted(t *testing.T, fault, name string, rounds int) *parted {
	t.Helper()
	p := &parted{net: rig.NewNet(t, 3)}
	p.Rig = rig.New(t, rig.Options{Nodes: 3, SyncAlways: true, Net: p.net})
	p.Roles()
	p.report = rig.Report{Fault: fault, Setting: setting(true), Repetitions: rounds}
	p.book = p.Load(name, 16, p.Dial(), p.Dial(), p.Dial())
	return p
}

// outage is how long a partition lasts: an election takes up to nine seconds.
func outage() time.Duration { return time.Duration(times(8, 15)) * time.Second }

func lasting(fault string) string { return fmt.Sprintf("%s for %s", fault, outage()) }

// heal ends a fault and waits until the next acknowledgement, and until all servers
// are well.
func (p *parted) heal() {
	p.net.Heal()
	p.report.Back = max(p.report.Back, p.book.AwaitMore(1, 60*time.Second))
	healthy(p.Rig, 90*time.Second)
}

// suffer has a leader suffer a partition again and again. others is whether the rest
// has to go on meanwhile; where the leader is cut off from the other servers only, it
// may take them longer than the partition lasts.
func (p *parted) suffer(rounds int, others bool, part func(leader, round int)) {
	p.T.Helper()
	for round := range rounds {
		p.book.AwaitMore(200, 60*time.Second)
		part(leader(p.Rig, round), round)
		rig.After(p.T, outage())
		if others { // who was answered before the cut has been told by now
			p.book.AwaitMore(1, 30*time.Second)
		}
		p.heal()
	}
	p.judge(200 * rounds)
}

func (p *parted) judge(atLeast int) {
	p.book.AwaitMore(100, 60*time.Second)
	p.report.Balance = p.book.Settle()
	p.report.Verify(p.Rig, p.book)
	p.report.Tell(p.Rig)
	p.report.Demand(p.Rig, atLeast)
}

// A server that leads loses its cable: nobody reaches it, clients and roles neither.
// The other two go on.
func TestPartitionOfTheLeader(t *testing.T) {
	rounds := times(1, 6)
	p := newParted(t, lasting("partition: a leader unplugged"), "whole", rounds)
	p.suffer(rounds, true, func(leader, _ int) { p.net.Unplug(leader) })
}

// Servers no longer hear each other, but clients reach all of them: whoever is alone
// must not promise anything.
func TestPartitionBetweenServers(t *testing.T) {
	onlyLong(t)
	const rounds = 6
	p := newParted(t, lasting("partition: a leader cut off from the other servers, clients reach it"), "split", rounds)
	p.suffer(rounds, false, func(leader, _ int) { p.net.Part(leader) })
}

// One direction only: the leader is heard and hears nobody, or the other way round.
func TestPartitionOfOneDirection(t *testing.T) {
	rounds := times(1, 6)
	p := newParted(t, lasting("partition: one direction between a leader and the others"), "half", rounds)
	p.suffer(rounds, false, func(leader, round int) {
		for other := range 3 {
			switch {
			case other == leader:
			case round%2 == 0:
				p.net.Deafen(leader, other)
			default:
				p.net.Deafen(other, leader)
			}
		}
	})
}

// A cable with a loose contact, one second up and one second down.
func TestPartitionThatFlaps(t *testing.T) {
	onlyLong(t)
	const flaps = 60
	p := newParted(t, "partition: a node's cable 1 s out, 1 s in", "flap", flaps)
	p.book.AwaitMore(200, 60*time.Second)
	l := leader(p.Rig, 0)
	for range flaps {
		p.net.Unplug(l)
		rig.After(t, time.Second)
		p.net.Heal()
		rig.After(t, time.Second)
	}
	p.heal()
	p.judge(200)
}
