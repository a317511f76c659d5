package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/internal/service"
)

// Process is what a role gets to work with.
type Process struct {
	Name    string // of this process: unique unless --name says otherwise
	Version string
	Logger  *slog.Logger
	Bus     *bus.Bus
	Metrics *metrics.Registry
	// Service is the registered NATS micro service; nil for a job, and for a
	// role that registers its own.
	Service *service.Service
	// DrainTimeout is what the role has to finish once its context has ended.
	DrainTimeout time.Duration
	In           io.Reader
	Out          io.Writer

	build    Build
	checks   checks
	mux      *http.ServeMux
	web      *Web
	link     atomic.Pointer[link]
	draining atomic.Bool
}

// Handle adds a page to the process' HTTP server; pattern is one of
// [http.ServeMux].
func (p *Process) Handle(pattern string, h http.Handler) { p.mux.Handle(pattern, h) }

// SetReady says whether the role does its work. It may be called at any time
// from any goroutine.
func (p *Process) SetReady(ready bool) {
	why := ""
	if !ready {
		why = "not serving"
	}
	p.checks.set("role", why)
	if p.Service != nil {
		p.Service.SetReady(ready)
	}
}

// look brings the conditions up to date that nobody tells about.
func (p *Process) look() {
	if p.draining.Load() {
		p.checks.set("draining", "the process is about to end")
	}
	if l := p.link.Load(); l != nil {
		why := ""
		if !l.IsConnected() {
			why = "not connected"
		}
		p.checks.set("nats", why)
	}
}

// settings are the flags of a role's process.
type settings struct {
	connection Connection
	logging    logging
	name       string
	http       string
	drain      time.Duration
}

const (
	// margin is what the end of the process needs besides the role's drain.
	margin = time.Second
	// jobPatience is how long a job waits for a server; a role waits for ever.
	jobPatience = 10 * time.Second
)

// run runs the role until it ends or a signal comes. die ends the process at
// once.
func (r *Role) run(ctx context.Context, s *settings, p *Process, signals <-chan os.Signal, die func(code int)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan struct{})
	defer close(ended)
	go r.watch(p, signals, stop, die, ended)

	p.checks.set("nats", "not connected")
	p.checks.set("setup", "waiting for the server")
	p.checks.set("role", "not started")
	p.mux = p.pages()
	var err error
	if p.web, err = ListenHTTP(ctx, s.http, p.mux, p.Logger); err != nil {
		return err
	}
	defer p.web.Close(ctx)
	job := r.Job != nil && r.Job()
	l, err := r.connect(ctx, s, p, job)
	if err != nil {
		if errors.Is(context.Cause(ctx), errSignal) && !job {
			return nil // asked to end before there was anything to end
		}
		return err
	}
	defer hangUp(l, p.Logger)
	p.Logger.Info("started", "role", r.Name, "name", p.Name, "version", p.Version, "http", p.web.Addr(),
		"partitions", p.Bus.Layout().Partitions)
	err = r.work(ctx, p, l, job)
	if err == nil && !job {
		p.Logger.Info("ended", "role", r.Name, "name", p.Name)
	}
	return err
}

// errSignal is why a context has ended.
var errSignal = errors.New("interrupted")

// watch turns the first signal into a drain and the second into an end.
func (r *Role) watch(p *Process, signals <-chan os.Signal, stop context.CancelCauseFunc, die func(int), ended <-chan struct{}) {
	select {
	case sig := <-signals:
		p.draining.Store(true)
		p.Logger.Info("draining; a second signal ends the process at once", "signal", sig.String(), "drain_timeout", p.DrainTimeout.String())
		stop(errSignal)
	case <-ended:
		return
	}
	select {
	case <-signals:
		die(ExitInterrupted)
	case <-ended:
	}
}

// connect does what comes before the role: connection, streams, registration.
func (r *Role) connect(ctx context.Context, s *settings, p *Process, job bool) (*link, error) {
	if job {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, jobPatience)
		defer cancel()
	}
	l, err := s.connection.dial(ctx, "hierarchy "+r.Name+" "+p.Name, p.Logger)
	if err != nil {
		return nil, err
	}
	p.link.Store(l)
	if p.Bus, err = openBus(ctx, l, p.Logger); err != nil {
		l.Close()
		return nil, err
	}
	p.checks.set("setup", "")
	if !job && !r.OwnService {
		meta := map[string]string{"commit": p.build.Commit, "http": p.web.Addr()}
		p.Service, err = service.Start(l.Conn, service.Config{
			Role: r.Name, Name: p.Name, Version: p.Version, Description: r.Short, Metadata: meta, Logger: p.Logger,
		})
		if err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// work runs the role to its end: by itself, by a signal, or because the
// connection is closed for good.
func (r *Role) work(ctx context.Context, p *Process, l *link, job bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, p) }()
	var err error
	select {
	case err = <-done:
	case <-l.closed:
		cancel()
		err = errors.Join(closeReason(l.Conn), r.drained(p, done))
	case <-ctx.Done():
		err = r.drained(p, done)
	}
	p.SetReady(false)
	switch {
	case job && errors.Is(context.Cause(ctx), errSignal):
		return Exit(ExitInterrupted, errors.Join(errSignal, err))
	case err == nil && !job && ctx.Err() == nil:
		return fmt.Errorf("the %s ended by itself", r.Name)
	}
	if p.Service != nil {
		err = errors.Join(err, p.Service.Stop())
	}
	return err
}

// drained waits for the role, but not for ever.
func (r *Role) drained(p *Process, done <-chan error) error {
	t := time.NewTimer(p.DrainTimeout + margin)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return fmt.Errorf("the %s did not end within %s; what was under way will be taken over", r.Name, p.DrainTimeout)
	}
}

// hangUp closes the connection once what was published and what has arrived is
// through.
func hangUp(l *link, log *slog.Logger) {
	if l.IsClosed() {
		return
	}
	if err := l.Drain(); err != nil { // not connected: nothing can be drained
		l.Close()
		return
	}
	t := time.NewTimer(margin)
	defer t.Stop()
	select {
	case <-l.closed:
	case <-t.C:
		log.Warn("the connection did not drain in time")
		l.Close()
	}
}

// stopSignals end a process in good order.
var stopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}
