package rig

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a program that runs until it is killed or the test ends. What it says
// last is printed when the test fails.
type Process struct {
	t    *testing.T
	name string
	argv []string
	env  []string
	log  string // path

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a command. A name that is used again continues its log.
func start(t *testing.T, name, logs string, env []string, argv ...string) *Process {
	t.Helper()
	p := &Process{t: t, name: name, argv: argv, env: env, log: filepath.Join(logs, name+".log")}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			p.print()
		}
	})
	p.Start()
	return p
}

// Start starts a process that has ended, once more.
func (p *Process) Start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // the process has its own
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = exec.CommandContext(context.Background(), p.argv[0], p.argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(append(os.Environ(), "OPS_LOG_FORMAT=json"), p.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test binary that is killed leaves nobody
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(p.cmd, p.done)
}

// Name is the one that the process was started under.
func (p *Process) Name() string { return p.name }

// Signal sends a signal to a process that may have ended.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("%s: %v", p.name, err)
	}
}

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end and waits; one that does not is killed.
func (p *Process) Stop() {
	p.Signal(syscall.SIGTERM)
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("%s did not end within 20 s of SIGTERM", p.name)
		p.Kill()
	}
}

func (p *Process) print() {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	p.t.Logf("%s said last:\n%s", p.name, strings.Join(lines[max(0, len(lines)-12):], "\n"))
}
