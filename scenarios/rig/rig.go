package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
)

// Quick has leases short enough for a test. Nothing but the length of the gaps
// depends on them.
const Quick = `{"attempt_timeout":"3s","retry_base_delay":"20ms"}`

// Options say what to build. The zero value is one server on loopback with the
// server's own sync interval.
type Options struct {
	Nodes      int                  // servers and replicas, 1 or 3; default 1
	SyncAlways bool                 // fsync before every acknowledgement
	Policy     string               // default Quick
	Partitions int                  // default 8
	Net        *Net                 // where the nodes live; nil: all on loopback
	Dir        func(i int) string   // the store of node i; nil: a directory that the test removes
	Env        func(i int) []string // of node i, besides that of the test
	Binaries   string               // directory of the programs; "": those of Main
}

// Rig is a running system. Methods that break something may be called from one
// goroutine at a time.
type Rig struct {
	T     *testing.T
	Bus   *bus.Bus // on a connection to all nodes
	Nodes []*Node
	Opts  Options

	logs string
}

// Node is one NATS server.
type Node struct {
	*Process
	Host, Store            string
	Client, Route, Monitor int
}

// URL is where clients connect to.
func (n *Node) URL() string { return "nats://" + net.JoinHostPort(n.Host, strconv.Itoa(n.Client)) }

// New starts the servers, sets them up and connects to them.
func New(t *testing.T, o Options) *Rig {
	t.Helper()
	o.Nodes, o.Partitions = max(o.Nodes, 1), max(o.Partitions, 0)
	if o.Partitions == 0 {
		o.Partitions = 8
	}
	if o.Policy == "" {
		o.Policy = Quick
	}
	if o.Binaries == "" {
		o.Binaries = bin
	}
	r := &Rig{T: t, Opts: o, logs: t.TempDir()}
	ports, err := natsd.FreePorts(3 * o.Nodes) // at once, so that no two nodes get the same
	if err != nil {
		t.Fatal(err)
	}
	for i := range o.Nodes {
		r.Nodes = append(r.Nodes, r.place(i, ports[3*i:]))
	}
	for i := range r.Nodes {
		r.boot(i)
	}
	r.CLI(0, "setup", "--wait", "60s", "--replicas", fmt.Sprint(o.Nodes), "--partitions", fmt.Sprint(o.Partitions))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	b, err := bus.Open(ctx, r.Dial())
	if err != nil {
		t.Fatal(err)
	}
	r.Bus = b
	r.Eventually(30*time.Second, "the policy to be stored", func() bool {
		_, err := b.PutPolicy(ctx, []byte(o.Policy))
		return err == nil
	})
	return r
}

// place chooses where a node will be; the ports are for one on loopback.
func (r *Rig) place(i int, ports []int) *Node {
	n := &Node{Host: "127.0.0.1", Client: 4222, Route: 6222, Monitor: 8222}
	if r.Opts.Net != nil {
		n.Host = r.Opts.Net.Addr(i)
	} else {
		n.Client, n.Route, n.Monitor = ports[0], ports[1], ports[2]
	}
	if r.Opts.Dir != nil {
		n.Store = r.Opts.Dir(i)
	} else {
		n.Store = r.T.TempDir()
	}
	return n
}

// boot starts node i for the first time.
func (r *Rig) boot(i int) {
	n := r.Nodes[i]
	conf := filepath.Join(r.logs, fmt.Sprintf("n%d.conf", i+1))
	if err := os.WriteFile(conf, []byte(r.config(i)), 0o600); err != nil {
		r.T.Fatal(err)
	}
	argv := []string{filepath.Join(r.Opts.Binaries, "nats-server"), "-c", conf}
	if r.Opts.Net != nil {
		argv = append(r.Opts.Net.inside(i), argv...)
	}
	var env []string
	if r.Opts.Env != nil {
		env = r.Opts.Env(i)
	}
	n.Process = start(r.T, fmt.Sprintf("n%d", i+1), r.logs, env, argv...)
}

func (r *Rig) config(i int) string {
	n := r.Nodes[i]
	sync := "2m" // the server's default
	if r.Opts.SyncAlways {
		sync = "always"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: n%d\nlisten: %s:%d\nhttp: %s:%d\n", i+1, n.Host, n.Client, n.Host, n.Monitor)
	fmt.Fprintf(&b, "jetstream { store_dir: %q, sync_interval: %s, max_file_store: 64GB, max_memory_store: 64MB }\n", n.Store, sync)
	if len(r.Nodes) > 1 {
		fmt.Fprintf(&b, "cluster { name: rig, listen: %s:%d, no_advertise: true, routes: [\n", n.Host, n.Route)
		for j, other := range r.Nodes {
			if j != i {
				fmt.Fprintf(&b, "  nats://%s:%d\n", other.Host, other.Route)
			}
		}
		b.WriteString("] }\n")
	}
	return b.String()
}

// URLs are those of all nodes.
func (r *Rig) URLs() string {
	var all []string
	for _, n := range r.Nodes {
		all = append(all, n.URL())
	}
	return strings.Join(all, ",")
}

// Dial connects to any node and to another one when that goes away; silence is
// found out within two seconds. The connection ends with the test.
func (r *Rig) Dial(opts ...nats.Option) *nats.Conn {
	r.T.Helper()
	return r.DialTo(r.URLs(), opts...)
}

// DialTo is Dial for other addresses.
func (r *Rig) DialTo(urls string, opts ...nats.Option) *nats.Conn {
	r.T.Helper()
	o := append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.ReconnectJitter(20*time.Millisecond, 0),
		nats.RetryOnFailedConnect(true), nats.Timeout(time.Second), nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1), // what cannot be sent now fails now
	}, opts...)
	nc, err := nats.Connect(urls, o...)
	if err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(nc.Close)
	return nc
}

// Role starts one of our programs against all nodes.
func (r *Rig) Role(role, name string, args ...string) *Process {
	r.T.Helper()
	return r.RoleAt(r.URLs(), role, name, nil, args...)
}

// RoleAt starts one of our programs against other addresses and with an environment
// of its own.
func (r *Rig) RoleAt(urls, role, name string, env []string, args ...string) *Process {
	r.T.Helper()
	argv := append([]string{filepath.Join(r.Opts.Binaries, role), "--server", urls, "--name", name}, args...)
	return start(r.T, name, r.logs, env, argv...)
}

// Roles starts two resolvers, two executors and a submitter.
func (r *Rig) Roles() []*Process {
	r.T.Helper()
	return []*Process{
		r.Role("resolver", "r1"), r.Role("resolver", "r2"), r.Role("executor", "x1"), r.Role("executor", "x2"), r.Role("submitter", "s1"),
	}
}

// CLI runs a command of the CLI and checks its exit code. It returns stdout.
func (r *Rig) CLI(want int, args ...string) string {
	r.T.Helper()
	out, stderr, code := r.Ask(args...)
	if code != want {
		r.T.Fatalf("hierarchy %s exits %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, stderr)
	}
	return out
}

// Ask runs a command of the CLI.
func (r *Rig) Ask(args ...string) (stdout, stderr string, code int) {
	r.T.Helper()
	cmd := exec.CommandContext(r.T.Context(), filepath.Join(r.Opts.Binaries, "hierarchy"), append(args, "--server", r.URLs())...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.T.Fatal(err)
	}
	return string(out), errs.String(), cmd.ProcessState.ExitCode()
}

// Eventually asks until the answer is yes, and fails the test when patience ends.
func (r *Rig) Eventually(patience time.Duration, what string, ok func() bool) {
	r.T.Helper()
	if !Wait(patience, ok) {
		r.T.Fatalf("waited %s for %s", patience, what)
	}
}

// Wait asks every 20 ms until the answer is yes, or patience ends.
func Wait(patience time.Duration, ok func() bool) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return ok()
		}
	}
	return true
}

// After lets time pass: a fault has a length.
func After(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
