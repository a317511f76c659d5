package rig

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// Net is a network of its own for the nodes: a namespace each, joined by a bridge
// in another one, to which the test and the roles are connected, too.
type Net struct {
	t      *testing.T
	prefix string
	subnet string
	nodes  int
}

// NewNet makes a network for so many nodes, or skips the test where it cannot. It
// disappears with the test.
func NewNet(t *testing.T, nodes int) *Net {
	t.Helper()
	NeedRoot(t, "ip", "iptables")
	pid := os.Getpid()
	n := &Net{t: t, prefix: mark + strconv.Itoa(pid), subnet: fmt.Sprintf("10.213.%d.", pid%250), nodes: nodes}
	t.Cleanup(n.remove)
	if err := n.make(); err != nil {
		Skip(t, "needs network namespaces, veth, bridges and iptables: %v", err)
	}
	return n
}

func (n *Net) make() error {
	hub, host := n.prefix+"hub", n.prefix+"r"
	steps := [][]string{
		{"ip", "netns", "add", hub},
		{"ip", "-n", hub, "link", "add", "name", "hubbr", "type", "bridge"},
		{"ip", "-n", hub, "link", "set", "hubbr", "up"},
		{"ip", "link", "add", host, "type", "veth", "peer", "name", "up0", "netns", hub},
		{"ip", "addr", "add", n.subnet + "1/24", "dev", host},
		{"ip", "link", "set", host, "up"},
		{"ip", "-n", hub, "link", "set", "up0", "master", "hubbr"},
		{"ip", "-n", hub, "link", "set", "up0", "up"},
	}
	for i := range n.nodes {
		ns, port := n.ns(i), n.port(i)
		steps = append(steps,
			[]string{"ip", "netns", "add", ns},
			[]string{"ip", "-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns},
			[]string{"ip", "-n", hub, "link", "set", port, "master", "hubbr"},
			[]string{"ip", "-n", hub, "link", "set", port, "up"},
			[]string{"ip", "-n", ns, "link", "set", "lo", "up"},
			[]string{"ip", "-n", ns, "addr", "add", n.Addr(i) + "/24", "dev", "eth0"},
			[]string{"ip", "-n", ns, "link", "set", "eth0", "up"},
			[]string{"ip", "netns", "exec", ns, "iptables", "-w", "-L", "INPUT", "-n"},
		)
	}
	for _, s := range steps {
		if _, err := command(s...); err != nil {
			return err
		}
	}
	return nil
}

func (n *Net) remove() {
	for i := range n.nodes {
		_, _ = command("ip", "netns", "del", n.ns(i))
	}
	_, _ = command("ip", "netns", "del", n.prefix+"hub")
	_, _ = command("ip", "link", "del", n.prefix+"r") // gone with its other end, as a rule
}

func (n *Net) ns(i int) string   { return fmt.Sprintf("%sn%d", n.prefix, i+1) }
func (n *Net) port(i int) string { return fmt.Sprintf("port%d", i+1) }

// Addr is the address of node i.
func (n *Net) Addr(i int) string { return n.subnet + strconv.Itoa(11+i) }

// inside is what a command of node i starts with.
func (n *Net) inside(i int) []string { return []string{"ip", "netns", "exec", n.ns(i)} }

func (n *Net) must(argv ...string) {
	n.t.Helper()
	if _, err := command(argv...); err != nil {
		n.t.Fatal(err)
	}
}

// Deafen makes node i hear nothing of node j, which is not told. The other
// direction works.
func (n *Net) Deafen(i, j int) {
	n.t.Helper()
	n.must("ip", "netns", "exec", n.ns(i), "iptables", "-w", "-I", "INPUT", "-s", n.Addr(j), "-j", "DROP")
}

// Part cuts node i off from the other nodes in both directions. Clients reach all
// of them.
func (n *Net) Part(i int) {
	n.t.Helper()
	for j := range n.nodes {
		if j != i {
			n.Deafen(i, j)
			n.Deafen(j, i)
		}
	}
}

// Unplug cuts node i off from everybody, clients included.
func (n *Net) Unplug(i int) {
	n.t.Helper()
	n.must("ip", "-n", n.prefix+"hub", "link", "set", n.port(i), "down")
}

// Heal ends all of that.
func (n *Net) Heal() {
	n.t.Helper()
	for i := range n.nodes {
		n.must("ip", "netns", "exec", n.ns(i), "iptables", "-w", "-F", "INPUT")
		n.must("ip", "-n", n.prefix+"hub", "link", "set", n.port(i), "up")
	}
}
