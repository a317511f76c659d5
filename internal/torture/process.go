package torture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
)

// process is one child. Its methods may be called from any goroutine.
type process struct {
	name string
	cmd  *exec.Cmd
	hold io.Closer     // closed when this process ends: the child ends as well
	done chan struct{} // closed when it has ended
	tail *tail
}

// spawn starts a part as a process of its own. armed is what its failpoints do.
func (s *site) spawn(name string, args []string, armed string) (*process, error) {
	log, err := os.Create(filepath.Join(s.logs, name+".log"))
	if err != nil {
		return nil, fmt.Errorf("torture: %w", err)
	}
	argv := append(append([]string{}, s.Self...), args...)
	p := &process{name: name, done: make(chan struct{}), tail: &tail{file: log, hit: make(chan struct{})}}
	p.cmd = exec.Command(argv[0], argv[1:]...) //nolint:gosec,noctx // our own program; it outlives contexts on purpose
	p.cmd.Env = append(environ(), failpoint.Env+"="+armed)
	p.cmd.Stdout, p.cmd.Stderr = p.tail, p.tail
	if p.hold, err = p.cmd.StdinPipe(); err != nil {
		return nil, errors.Join(fmt.Errorf("torture: %w", err), log.Close())
	}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("torture: start %s: %w", name, err), log.Close())
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		_ = log.Close()
		close(p.done)
	}()
	return p, nil
}

// environ is ours without what is meant for this process alone.
func environ() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, failpoint.Env+"=") && !strings.HasPrefix(e, "NATS_") && !strings.HasPrefix(e, "OPS_") {
			env = append(env, e)
		}
	}
	return env
}

// signal does nothing to a process that has ended.
func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// kill ends the process as a power switch would and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stopped reports whether the process is stopped by a signal; where the system
// does not tell, what it has announced is believed.
func (p *process) stopped() bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return !p.ended()
	}
	_, rest, _ := bytes.Cut(data, []byte(") "))
	return bytes.HasPrefix(rest, []byte("T"))
}

// exitPanic is the exit code of a Go program that panics. Ours exit so, too, when
// their command line is wrong, which it is not here.
const exitPanic = 2

// died says how the process has ended, in the words of the actions; "" if it ended
// in another way.
func (p *process) died() failpoint.Action {
	ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL:
		return failpoint.Kill
	case p.cmd.ProcessState.ExitCode() == exitPanic && strings.Contains(p.tail.last(), "panic: failpoint: "):
		return failpoint.Panic
	}
	return ""
}

// tail keeps the end of what a process says, and notices a failpoint that acts.
type tail struct {
	mu    sync.Mutex
	file  *os.File
	text  []byte
	point string // "NAME ACTION", the first that acted
	hit   chan struct{}
}

const tailSize = 16 << 10

// Write takes the output of the process.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.file.Write(b) // a full disk must not stop the process
	t.text = append(t.text, b...)
	if t.point == "" {
		if i := bytes.Index(t.text, []byte("\n"+failpoint.Mark)); i >= 0 {
			line, _, whole := bytes.Cut(t.text[i+1+len(failpoint.Mark):], []byte("\n"))
			if whole {
				t.point = string(line)
				close(t.hit)
			}
		}
	}
	if len(t.text) > 2*tailSize {
		t.text = append(t.text[:0], t.text[len(t.text)-tailSize:]...)
	}
	return len(b), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// acted is "NAME ACTION" of the failpoint that acted, or empty.
func (t *tail) acted() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.point
}
