package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
)

const patience = 20 * time.Second

// port is one that is free now.
func port(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// process is a program that runs inside the test.
type process struct {
	t       *testing.T
	http    string
	err     *log
	out     *log
	signals chan os.Signal
	died    chan int
	code    chan int
	cancel  context.CancelFunc
}

// log is a stream that can be read while it is written.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func start(t *testing.T, r Role, args ...string) *process {
	t.Helper()
	for _, name := range []string{"NATS_URL", "NATS_CONTEXT", "OPS_NAME", "OPS_HTTP_ADDR"} {
		t.Setenv(name, "")
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		t: t, http: fmt.Sprintf("127.0.0.1:%d", port(t)), err: &log{}, out: &log{}, cancel: cancel,
		signals: make(chan os.Signal, 2), died: make(chan int, 1), code: make(chan int, 1),
	}
	t.Cleanup(cancel)
	if r.Name == "" {
		r.Name = "executor"
	}
	args = append([]string{"--http", p.http, "--log-format", "json"}, args...)
	go func() {
		p.code <- Execute(ctx, r, Streams{args, strings.NewReader("input"), p.out, p.err}, p.signals, func(code int) { p.died <- code })
	}()
	return p
}

// exits waits for the end.
func (p *process) exits(want int) {
	p.t.Helper()
	select {
	case got := <-p.code:
		if got != want {
			p.t.Fatalf("exit code %d, want %d; %s", got, want, p.err)
		}
	case <-time.After(patience):
		p.t.Fatalf("still running; %s", p.err)
	}
}

func (p *process) get(path string, header ...string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+p.http+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(header) > 0 {
		req.Header.Set(header[0], header[1])
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(body)
}

// until waits for an answer of a page.
func (p *process) until(path string, code int, has string) {
	p.t.Helper()
	var got int
	var body string
	p.eventually(func() bool {
		got, body = p.get(path)
		return got == code && strings.Contains(body, has)
	}, func() string { return fmt.Sprintf("%s: %d %s", path, got, body) })
}

func (p *process) logs(text string) {
	p.t.Helper()
	p.eventually(func() bool { return strings.Contains(p.err.String(), text) }, p.err.String)
}

func (p *process) eventually(ok func() bool, what func() string) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			p.t.Fatal(what())
		}
	}
}

func serverAt(t *testing.T, port int) *natsd.Server {
	t.Helper()
	s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func setUp(t *testing.T, s *natsd.Server) *nats.Conn {
	t.Helper()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	l := bus.DefaultLayout()
	l.Partitions, l.MaxIntakeBytes = 4, 0
	if _, err := bus.Setup(t.Context(), nc, l); err != nil {
		t.Fatal(err)
	}
	return nc
}

// ready serves until its context ends.
func ready(ctx context.Context, p *Process) error {
	p.SetReady(true)
	<-ctx.Done()
	return nil
}

// A process may be the first to start. It is alive, says what it waits for, and
// says so once in its log.
func TestAnyOrderOfStart(t *testing.T) {
	at := port(t)
	p := start(t, Role{Run: ready}, "--server", fmt.Sprintf("nats://127.0.0.1:%d", at), "--name", "one")
	p.until("/livez", 200, "alive")
	p.until("/readyz", 503, "not ready: nats, setup, role")
	p.logs("NATS is not to be reached yet")
	s := serverAt(t, at)
	p.until("/readyz?verbose", 503, "[+] nats\n[-] setup: waiting for the server\n[-] role: not started\n")
	p.logs("hierarchy setup")
	nc := setUp(t, s)
	p.until("/readyz?verbose", 200, "[+] nats\n[+] setup\n[+] role\nready\n")
	if n := strings.Count(p.err.String(), "not set up"); n != 1 {
		t.Errorf("%d lines about the same thing", n)
	}
	m, err := nc.Request("ops.ctl.executor.status", nil, patience)
	if err != nil || !strings.Contains(string(m.Data), `"name":"one"`) || !strings.Contains(string(m.Data), `"ready":true`) {
		t.Errorf("%v: %s", err, m.Data)
	}
	p.signals <- syscall.SIGTERM
	p.exits(ExitDone)
}

// A server that goes away makes the process unready and nothing else.
func TestServerComesBack(t *testing.T) {
	at, dir := port(t), t.TempDir()
	up := func() *natsd.Server {
		s, err := natsd.Start(natsd.Options{StoreDir: dir, Port: at})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := up()
	setUp(t, s)
	p := start(t, Role{Run: ready}, "--server", s.ClientURL())
	p.until("/readyz", 200, "ready")
	s.Stop()
	p.until("/readyz", 503, "not ready: nats")
	p.until("/livez", 200, "alive")
	t.Cleanup(up().Stop)
	p.until("/readyz", 200, "ready")
	p.signals <- syscall.SIGTERM
	p.exits(ExitDone)
}

// The first signal drains: unready first, then the role's end. A second one ends
// the process at once.
func TestSignals(t *testing.T) {
	s := serverAt(t, 0)
	setUp(t, s)
	asked, release := make(chan struct{}), make(chan struct{})
	p := start(t, Role{Run: func(ctx context.Context, p *Process) error {
		p.SetReady(true)
		<-ctx.Done()
		close(asked)
		<-release
		return p.Bus.Conn().Publish("last.words", nil)
	}}, "--server", s.ClientURL())
	p.until("/readyz", 200, "ready")
	p.signals <- syscall.SIGTERM
	<-asked
	if code, body := p.get("/readyz?verbose"); code != 503 || !strings.Contains(body, "draining: ") {
		t.Errorf("while draining: %d %s", code, body)
	}
	p.signals <- os.Interrupt
	select {
	case code := <-p.died:
		if code != ExitInterrupted {
			t.Errorf("died with %d", code)
		}
	case <-time.After(patience):
		t.Fatal("a second signal does nothing")
	}
	close(release)
	p.exits(ExitDone)
}

func TestSignalBeforeThereIsAServer(t *testing.T) {
	p := start(t, Role{Run: ready}, "--server", fmt.Sprintf("127.0.0.1:%d", port(t)))
	p.until("/livez", 200, "alive")
	p.signals <- syscall.SIGTERM
	p.exits(ExitDone)
}

func TestRoleThatDoesNotEnd(t *testing.T) {
	s := serverAt(t, 0)
	setUp(t, s)
	p := start(t, Role{Run: func(_ context.Context, p *Process) error {
		p.SetReady(true)
		<-t.Context().Done()
		return nil
	}}, "--server", s.ClientURL(), "--drain-timeout", "10ms")
	p.until("/readyz", 200, "ready")
	p.signals <- syscall.SIGTERM
	p.exits(ExitOther)
	p.logs("did not end within 10ms")
}

func TestEnds(t *testing.T) {
	s := serverAt(t, 0)
	setUp(t, s)
	for name, c := range map[string]struct {
		run  error
		code int
		says string
	}{
		"by itself":    {nil, ExitOther, "ended by itself"},
		"error":        {errors.New("on fire"), ExitOther, "executor: on fire"},
		"with a code":  {Exit(ExitNotFound, errors.New("gone")), ExitNotFound, "gone"},
		"unreachable":  {nats.ErrNoServers, ExitUnreachable, "no servers"},
		"a permission": {nats.ErrPermissionViolation, ExitPermission, "permissions"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, Role{Run: func(context.Context, *Process) error { return c.run }}, "--server", s.ClientURL())
			p.exits(c.code)
			p.logs(c.says)
		})
	}
}

func TestJob(t *testing.T) {
	s := serverAt(t, 0)
	nc := setUp(t, s)
	do := make(chan func(context.Context, *Process) error, 1)
	var file string
	r := Role{
		Name:  "submitter",
		Flags: func(f *pflag.FlagSet) { f.StringVarP(&file, "file", "f", "", "") },
		Job:   func() bool { return file != "" },
		Run:   func(ctx context.Context, p *Process) error { return (<-do)(ctx, p) },
	}
	do <- func(_ context.Context, p *Process) error {
		if _, err := nc.Request("ops.ctl.submitter.status", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("a job is registered: %v", err)
		}
		in, _ := io.ReadAll(p.In)
		_, err := fmt.Fprintf(p.Out, "got %s", in)
		return err
	}
	p := start(t, r, "--server", s.ClientURL(), "-f", "x")
	p.exits(ExitDone)
	if p.out.String() != "got input" {
		t.Errorf("%s", p.out)
	}

	begun := make(chan struct{})
	do <- func(ctx context.Context, _ *Process) error { close(begun); <-ctx.Done(); return nil }
	p = start(t, r, "--server", s.ClientURL(), "-f", "x")
	<-begun
	p.signals <- os.Interrupt
	p.exits(ExitInterrupted)
}

// A server that refuses the user ends the process: waiting cannot help.
func TestWrongUser(t *testing.T) {
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: "u", Password: "p", NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(srv.Shutdown)
	if !srv.ReadyForConnections(patience) {
		t.Fatal("no server")
	}
	t.Setenv("NATS_PASSWORD", "wrong")
	p := start(t, Role{Run: ready}, "--server", srv.ClientURL(), "--user", "u")
	p.exits(ExitPermission)
	if strings.Contains(p.err.String(), "wrong") {
		t.Errorf("the password is in the log: %s", p.err)
	}
}

func TestUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"flag":       {"--colour", "red"},
		"argument":   {"now"},
		"name":       {"--name", "a.b"},
		"drain":      {"--drain-timeout", "0s"},
		"format":     {"--log-format", "xml"},
		"level":      {"--log-level", "loud"},
		"half a key": {"--tlscert", "x"},
		"nkey":       {"--nkey", "/does/not/exist"},
	} {
		t.Run(name, func(t *testing.T) {
			start(t, Role{Run: ready}, append([]string{"--server", "127.0.0.1:1"}, args...)...).exits(ExitUsage)
		})
	}
}

func TestHTTPAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	start(t, Role{Run: ready}, "--server", "127.0.0.1:1", "--http", l.Addr().String()).exits(ExitOther)
}

func TestPages(t *testing.T) {
	t.Setenv("OPS_HTTP_TOKEN", "secret")
	s := serverAt(t, 0)
	setUp(t, s)
	p := start(t, Role{Version: "1.2.3", Run: func(ctx context.Context, p *Process) error {
		p.Handle("GET /extra", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "more") }))
		return ready(ctx, p)
	}}, "--server", s.ClientURL())
	p.until("/readyz", 200, "ready") // no token needed
	for path, has := range map[string]string{"/version": `"version":"1.2.3"`, "/metrics": "ops_build_info", "/extra": "more"} {
		if code, body := p.get(path); code != 401 || strings.Contains(body, has) {
			t.Errorf("%s without a token: %d %s", path, code, body)
		}
		if code, _ := p.get(path, "Authorization", "Bearer secrets"); code != 401 {
			t.Errorf("%s with a wrong token: %d", path, code)
		}
		if code, body := p.get(path, "Authorization", "Bearer secret"); code != 200 || !strings.Contains(body, has) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
}

func TestHealthcheck(t *testing.T) {
	s := serverAt(t, 0)
	setUp(t, s)
	on := make(chan bool)
	p := start(t, Role{Run: func(ctx context.Context, p *Process) error {
		for v := range on {
			p.SetReady(v)
		}
		<-ctx.Done()
		return nil
	}}, "--server", s.ClientURL())
	check := func(addr string) int {
		return Execute(t.Context(), Role{Name: "executor"}, Streams{[]string{"healthcheck", "--http", addr}, nil, io.Discard, io.Discard}, nil, nil)
	}
	_, at, _ := net.SplitHostPort(p.http)
	p.until("/livez", 200, "alive")
	if code := check(p.http); code != ExitOther {
		t.Errorf("not ready: %d", code)
	}
	on <- true
	close(on)
	p.until("/readyz", 200, "ready")
	for _, addr := range []string{p.http, ":" + at, "0.0.0.0:" + at} {
		if code := check(addr); code != ExitDone {
			t.Errorf("%s: %d", addr, code)
		}
	}
	if code := check(""); code != ExitUsage {
		t.Errorf("no address: %d", code)
	}
	if code := check(fmt.Sprintf("127.0.0.1:%d", port(t))); code != ExitOther {
		t.Errorf("nobody there: %d", code)
	}
}

func TestLogs(t *testing.T) {
	var b bytes.Buffer
	l, err := (&logging{"auto", "warn"}).logger(&b)
	if err != nil {
		t.Fatal(err)
	}
	l.Info("quiet")
	l.With("a", 1).Warn("loud", "b", "x")
	got := b.String()
	if !strings.HasPrefix(got, `{"level":"warn","a":1,"b":"x","time":"`) || !strings.HasSuffix(got, `Z","message":"loud"}`+"\n") {
		t.Errorf("%s", got)
	}
	b.Reset()
	l, _ = (&logging{"console", "info"}).logger(&b)
	l.Info("hello")
	if strings.HasPrefix(b.String(), "{") {
		t.Errorf("%s", b.String())
	}
}

func TestDefaultName(t *testing.T) {
	for _, role := range []string{"executor", strings.Repeat("x", 80)} {
		if n := defaultName(role); len(n) > 64 || !strings.HasSuffix(n, fmt.Sprintf("-%d", os.Getpid())) {
			t.Errorf("%s", n)
		}
	}
}
