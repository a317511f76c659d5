package daemon

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// checks are the conditions of readiness, in the order in which they were first
// set.
type checks struct {
	mu    sync.Mutex
	names []string
	why   map[string]string // "" when fulfilled
}

// set says that a condition is fulfilled, or why not.
func (c *checks) set(name, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == nil {
		c.why = map[string]string{}
	}
	if !slices.Contains(c.names, name) {
		c.names = append(c.names, name)
	}
	c.why[name] = why
}

// report says whether all conditions are fulfilled, in lines that a person can
// read.
func (c *checks) report() (ok bool, brief, verbose string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var bad []string
	var lines strings.Builder
	for _, n := range c.names {
		if why := c.why[n]; why != "" {
			bad = append(bad, n)
			fmt.Fprintf(&lines, "[-] %s: %s\n", n, why)
		} else {
			fmt.Fprintf(&lines, "[+] %s\n", n)
		}
	}
	if len(bad) == 0 {
		return true, "ready\n", lines.String() + "ready\n"
	}
	brief = "not ready: " + strings.Join(bad, ", ") + "\n"
	return false, brief, lines.String() + brief
}

// Timing of the HTTP server. Nobody may keep a connection busy for ever.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
	closeTimeout  = time.Second
)

// pages are what every process shows.
func (p *Process) pages() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "alive\n") })
	mux.HandleFunc("GET /readyz", p.readyz)
	mux.Handle("GET /metrics", p.Metrics.Handler())
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p.build) // the client has gone away
	})
	return mux
}

// Web is a server for pages about a process. A nil one does not listen.
type Web struct {
	addr   string
	server *http.Server
}

// ListenHTTP serves pages on addr until [Web.Close]; "" does not listen. If
// OPS_HTTP_TOKEN is set, it must be shown for everything but /livez and /readyz.
// The error is for an address that cannot be used.
func ListenHTTP(ctx context.Context, addr string, pages http.Handler, log *slog.Logger) (*Web, error) {
	if addr == "" {
		return nil, nil //nolint:nilnil // not to listen is an ordinary choice
	}
	token := os.Getenv("OPS_HTTP_TOKEN")
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	w := &Web{addr: l.Addr().String()}
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() && token == "" {
		log.Info("metrics and status are open to everybody who reaches this address; OPS_HTTP_TOKEN asks for a token", "http", w.addr)
	}
	w.server = &http.Server{
		Handler: guard(token, pages), ReadHeaderTimeout: headerTimeout, ReadTimeout: 2 * headerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	go func() {
		if err := w.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("http", "error", err)
		}
	}()
	return w, nil
}

// Addr is where it really listens, "" if it does not.
func (w *Web) Addr() string {
	if w == nil {
		return ""
	}
	return w.addr
}

// Close ends the server; requests under way have a moment to finish, also when
// ctx has ended.
func (w *Web) Close(ctx context.Context) {
	if w == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if w.server.Shutdown(ctx) != nil {
		_ = w.server.Close() // somebody is still reading; the process ends anyway
	}
}

// guard asks for a token except for the probes, which tell nothing.
func guard(token string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		probe := r.URL.Path == "/livez" || r.URL.Path == "/readyz"
		shown, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token != "" && !probe && subtle.ConstantTimeCompare([]byte(shown), []byte(token)) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			text(w, http.StatusUnauthorized, "a bearer token is required\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (p *Process) readyz(w http.ResponseWriter, r *http.Request) {
	p.look()
	ok, brief, verbose := p.checks.report()
	code := http.StatusOK
	if !ok {
		code = http.StatusServiceUnavailable
	}
	if r.URL.Query().Has("verbose") {
		brief = verbose
	}
	text(w, code, brief)
}

func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(body)) // the client has gone away
}

// probeTimeout bounds the healthcheck command: whoever runs it waits.
const probeTimeout = 2 * time.Second

// probe asks the process that listens on addr whether it is ready. It is for
// images that hold no other program.
func probe(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Exit(ExitUsage, fmt.Errorf("--http or OPS_HTTP_ADDR must say where the process listens: %w", err))
	}
	switch host { // every address: ours will do
	case "", net.IPv4zero.String():
		host = "127.0.0.1"
	case net.IPv6unspecified.String():
		host = "::1"
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return Exit(ExitUsage, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return Exit(ExitOther, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Exit(ExitOther, fmt.Errorf("not ready: %s", resp.Status))
	}
	return nil
}
