package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/scenarios/rig"
)

// bin is where TestMain builds the programs.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "hierarchy-scenarios-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bin = dir
	code := 1
	if err := rig.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, "scenarios:", err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// site is one machine's worth of processes around one server.
type site struct {
	t     *testing.T
	store string
	port  int
	url   string
	bus   *bus.Bus
	nats  *program
}

// plan chooses where a site will be, so that roles can be started before it.
func plan(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, store: t.TempDir(), port: freePort(t)}
	s.url = fmt.Sprintf("nats://127.0.0.1:%d", s.port)
	return s
}

// newSite starts a server, sets it up and connects to it.
func newSite(t *testing.T, policy string) *site {
	t.Helper()
	return plan(t).up(policy)
}

// up starts the server, sets it up and connects to it.
func (s *site) up(policy string) *site {
	s.t.Helper()
	s.nats = s.server()
	s.cli(0, "setup", "--wait", "30s")
	nc, err := nats.Connect(s.url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	s.bus, err = bus.Open(s.t.Context(), nc)
	if err != nil {
		s.t.Fatal(err)
	}
	if policy != "" {
		if _, err := s.bus.PutPolicy(s.t.Context(), []byte(policy)); err != nil {
			s.t.Fatal(err)
		}
	}
	return s
}

func freePort(t *testing.T) int {
	t.Helper()
	ports, err := natsd.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// program is a running process.
type program struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan struct{}
	log  *os.File
}

// start runs a program until it is killed or the test ends. What it says is
// printed when the test fails.
func (s *site) start(name string, args ...string) *program {
	s.t.Helper()
	log, err := os.Create(filepath.Join(s.t.TempDir(), name+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	p := &program{t: s.t, name: name, done: make(chan struct{}), log: log}
	p.cmd = exec.Command(filepath.Join(bin, name), args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), "OPS_LOG_FORMAT=json")
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	s.t.Cleanup(func() {
		p.kill()
		if s.t.Failed() {
			p.print()
		}
		_ = log.Close()
	})
	return p
}

func (p *program) print() {
	data, err := os.ReadFile(p.log.Name())
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	p.t.Logf("%s (pid %d) said last:\n%s", p.name, p.cmd.Process.Pid, strings.Join(lines[max(0, len(lines)-15):], "\n"))
}

func (p *program) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// kill ends the process as a power switch would and waits until it is gone.
func (p *program) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

func (s *site) server() *program {
	p := s.start("nats-server", "-a", "127.0.0.1", "-p", fmt.Sprint(s.port), "-js", "-sd", s.store)
	s.eventually(20*time.Second, "the server to listen", func() bool {
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(s.url, "nats://"), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return p
}

func (s *site) resolver(name string) *program {
	return s.start("resolver", "--server", s.url, "--name", name)
}

func (s *site) executor(name string, args ...string) *program {
	return s.start("executor", append([]string{"--server", s.url, "--name", name}, args...)...)
}

// cli runs a command of the CLI and checks its exit code. It returns stdout.
func (s *site) cli(want int, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "hierarchy"), append(args, "--server", s.url)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		s.t.Fatalf("hierarchy %s exits %d, want %d\n%s%s", strings.Join(args, " "), got, want, out, stderr.String())
	}
	return string(out)
}

func (s *site) eventually(patience time.Duration, what string, ok func() bool) {
	s.t.Helper()
	if !rig.Wait(patience, ok) {
		s.t.Fatalf("waited %s for %s", patience, what)
	}
}

// load is what was submitted and acknowledged.
type load struct {
	ids []string
}

// submit publishes bursts of contended operations until n are acknowledged or
// ctx ends. An operation whose outcome is unknown is sent again under its id.
func (s *site) submit(ctx context.Context, prefix string, n, targets int, acked func(int)) *load {
	s.t.Helper()
	conflict := []string{"reject", "queue", "retry"}
	l := &load{}
	for i := range n {
		id := fmt.Sprintf("%s-%d", prefix, i)
		target := fmt.Sprintf("t-%d", (i/5)%targets)
		body := fmt.Sprintf(`{"op_id":%q,"op_type":"complex_update","priority":%d,"on_conflict":%q,"params":{"increment":{"n":1}}}`,
			id, 1+(i*7)%10, conflict[i%3])
		for {
			_, err := s.bus.Publish(ctx, bus.SubmitSubject(target), []byte(body), id, nil)
			if err == nil {
				l.ids = append(l.ids, id)
				break
			}
			if ctx.Err() != nil {
				return l
			}
		}
		if acked != nil {
			acked(i + 1)
		}
	}
	return l
}

// create makes the targets, so that updates have something to update.
func (s *site) create(targets int) *load {
	l := &load{}
	for i := range targets {
		id := fmt.Sprintf("make-%d", i)
		body := fmt.Sprintf(`{"op_id":%q,"op_type":"create_entity","priority":10,"on_conflict":"queue","params":{"fields":{"n":0}}}`, id)
		if _, err := s.bus.Publish(s.t.Context(), bus.SubmitSubject(fmt.Sprintf("t-%d", i)), []byte(body), id, nil); err != nil {
			s.t.Fatal(err)
		}
		l.ids = append(l.ids, id)
	}
	return l
}

// settle waits until everything acknowledged has ended and returns the counts by
// status.
func (s *site) settle(patience time.Duration, loads ...*load) map[op.Status]int {
	s.t.Helper()
	counts := map[op.Status]int{}
	open := map[string]bool{}
	for _, l := range loads {
		for _, id := range l.ids {
			open[id] = true
		}
	}
	s.eventually(patience, "every acknowledged operation to end", func() bool {
		for id := range open {
			data, found, err := s.bus.Record(s.t.Context(), id)
			if err != nil || !found {
				return false
			}
			var r op.Record
			if err := json.Unmarshal(data, &r); err != nil {
				s.t.Fatal(err)
			}
			if !r.Status.Terminal() {
				return false
			}
			counts[r.Status]++
			delete(open, id)
		}
		return true
	})
	return counts
}

// account checks that the entities count exactly the updates that succeeded.
func (s *site) account(counts map[op.Status]int, targets int) {
	s.t.Helper()
	sum := 0
	for i := range targets {
		data, found, err := s.bus.Entity(s.t.Context(), fmt.Sprintf("t-%d", i))
		if err != nil || !found {
			s.t.Fatalf("t-%d: found %v, error %v", i, found, err)
		}
		var e struct {
			Fields struct {
				N int `json:"n"`
			} `json:"fields"`
		}
		if err := json.Unmarshal(data, &e); err != nil {
			s.t.Fatal(err)
		}
		sum += e.Fields.N
	}
	if want := counts[op.Succeeded] - targets; sum != want {
		s.t.Errorf("the entities count %d effects, %d updates succeeded", sum, want)
	}
}

// executing counts the operations whose records say that an attempt runs.
func (s *site) executing() int {
	s.t.Helper()
	n := 0
	for kv, err := range s.bus.Records(s.t.Context()) {
		if err != nil {
			s.t.Fatal(err)
		}
		var r op.Record
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			s.t.Fatal(err)
		}
		if r.Status == op.Executing {
			n++
		}
	}
	return n
}

// events counts the events of one name.
func (s *site) events(name op.EventName) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	n := 0
	for _, err := range s.bus.Events(ctx, bus.EventQuery{Subjects: []string{bus.EventFilter(string(name), "")}, FromSeq: 1}) {
		if err != nil {
			break
		}
		n++
	}
	return n
}

// verify runs the auditor over everything; a violation fails the test. What it
// counted goes into the log.
func (s *site) verify() {
	s.t.Helper()
	counted, _, _ := strings.Cut(s.cli(0, "verify"), "\n")
	s.t.Log(counted)
}
