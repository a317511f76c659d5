// Package service registers a role as a NATS micro service, so that
// `nats micro ls` shows what is running and `nats micro stats` how it does.
//
// Every role answers at ops.ctl.<role>.status, one reply an instance, with what
// it says about itself. Roles with an API add endpoints of their own; those are
// shared by all instances of the role, so that more of them carry more load.
package service

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// StatusType is the value of "type" in a [Status].
const StatusType = "ops.v1.role_status"

// Status is what one instance of a role says about itself.
type Status struct {
	Type      string    `json:"type"` // StatusType
	Role      string    `json:"role"`
	Name      string    `json:"name"`
	ID        string    `json:"id"` // of the micro service's instance
	Version   string    `json:"version"`
	Ready     bool      `json:"ready"`
	StartedAt time.Time `json:"started_at"`
	Data      any       `json:"data,omitempty"` // the role's own counters
}

// Config says what to register. Role and Name are required.
type Config struct {
	Role        string            // "executor" becomes the service ops-executor
	Name        string            // of the instance
	Version     string            // of the program; what is no semantic version becomes 0.0.0
	Description string            // one line for a person
	Metadata    map[string]string // shown by `nats micro info`; host and go are added
	Logger      *slog.Logger      // nil drops what goes wrong
}

// Service is a registered role. Its methods may be called from any goroutine.
type Service struct {
	cfg     Config
	nc      *nats.Conn
	started time.Time
	micro   micro.Service
	ready   atomic.Bool
	data    atomic.Pointer[func() any]
}

// Subject is where the instances of role tell their status.
func Subject(role string) string { return "ops.ctl." + role + ".status" }

// Start registers the role on nc, which stays the caller's.
func Start(nc *nats.Conn, cfg Config) (*Service, error) {
	if cfg.Role == "" || cfg.Name == "" {
		return nil, errors.New("service: a role and a name are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, nc: nc, started: time.Now().UTC()}
	meta := map[string]string{"name": cfg.Name, "go": runtime.Version()}
	if host, err := os.Hostname(); err == nil {
		meta["host"] = host
	}
	maps.Copy(meta, cfg.Metadata)
	m, err := micro.AddService(nc, micro.Config{
		Name:         "ops-" + cfg.Role,
		Version:      semantic(cfg.Version),
		Description:  cfg.Description,
		Metadata:     meta,
		StatsHandler: func(*micro.Endpoint) any { return s.own() },
		ErrorHandler: func(_ micro.Service, e *micro.NATSError) {
			cfg.Logger.Warn("service endpoint", "subject", e.Subject, "error", e.Description)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("service: register %s: %w", cfg.Role, err)
	}
	s.micro = m
	err = m.AddEndpoint("status", micro.HandlerFunc(s.status),
		micro.WithEndpointSubject(Subject(cfg.Role)), micro.WithEndpointQueueGroupDisabled())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("service: register %s: %w", cfg.Role, err), m.Stop())
	}
	return s, nil
}

// Describe sets what the status and the statistics carry as data. f is called
// for every request and must be quick; what it returns must be encodable.
func (s *Service) Describe(f func() any) { s.data.Store(&f) }

// SetReady sets what the status says about readiness.
func (s *Service) SetReady(ready bool) { s.ready.Store(ready) }

// Endpoint adds one that all instances of the role share. Requests arrive one by
// one: a handler that waits must do so on a goroutine of its own, and may answer
// from there.
func (s *Service) Endpoint(name, subject, description string, h func(micro.Request)) error {
	own := func(r micro.Request) { h(request{r, s.nc}) }
	err := s.micro.AddEndpoint(name, micro.HandlerFunc(own), micro.WithEndpointSubject(subject),
		micro.WithEndpointMetadata(map[string]string{"description": description}))
	if err != nil {
		return fmt.Errorf("service: endpoint %s: %w", name, err)
	}
	return nil
}

// Status is what the status endpoint answers now.
func (s *Service) Status() Status {
	return Status{
		Type: StatusType, Role: s.cfg.Role, Name: s.cfg.Name, ID: s.micro.Info().ID, Version: s.cfg.Version,
		Ready: s.ready.Load(), StartedAt: s.started, Data: s.own(),
	}
}

// Stop takes the endpoints away; requests that have arrived are still handed to
// their handlers. Calling it twice, or after the connection closed, is fine.
func (s *Service) Stop() error {
	if err := s.micro.Stop(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("service: stop: %w", err)
	}
	return nil
}

func (s *Service) own() any {
	if f := s.data.Load(); f != nil {
		return (*f)()
	}
	return nil
}

func (s *Service) status(r micro.Request) {
	body, err := op.Marshal(s.Status())
	if err == nil {
		err = r.Respond(body)
	}
	if err != nil {
		s.cfg.Logger.Warn("status not answered", "error", err)
	}
}

// RespondJSON answers r with v, without HTML escaping.
func RespondJSON(r micro.Request, v any) error {
	body, err := op.Marshal(v)
	if err != nil {
		return fmt.Errorf("service: encode answer: %w", err)
	}
	return r.Respond(body)
}

// RespondError answers r with a mistake of the request: the body is e, and the
// headers of the micro protocol carry its message and the digits of its code.
func RespondError(r micro.Request, e *op.Error) error {
	body, err := op.Marshal(e)
	if err != nil {
		return fmt.Errorf("service: encode error: %w", err)
	}
	return r.Error(Digits(e.Code), e.Message, body)
}

// Digits is the number in a code such as OPS-1003, for the header
// Nats-Service-Error-Code; "500" where there is none.
func Digits(code string) string {
	if _, n, ok := strings.Cut(code, "-"); ok && n != "" {
		return n
	}
	return "500"
}

// semVer is what the micro protocol accepts as a version, in short.
var semVer = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

// semantic turns version into one that micro accepts. The protocol refuses
// anything else, and a role that is built from a work tree must run, too.
func semantic(version string) string {
	v := strings.TrimPrefix(version, "v")
	if m := semVer.FindStringSubmatch(v); m != nil && !leadingZero(m[4]) {
		return v
	}
	return "0.0.0"
}

// leadingZero reports whether a numeric part of a pre-release starts with 0.
func leadingZero(pre string) bool {
	for part := range strings.SplitSeq(strings.TrimPrefix(pre, "-"), ".") {
		if len(part) > 1 && part[0] == '0' && strings.Trim(part, "0123456789") == "" {
			return true
		}
	}
	return false
}
