package observer

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/service"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Limits of the API. A history reads a whole partition of the journal, so few may
// run at once.
const (
	apiTimeout    = 30 * time.Second
	apiConcurrent = 16
)

// endpoint is one question of the API. Its argument is the rest of the subject,
// or the body of the request where there is no pattern.
type endpoint struct {
	verb, pattern, description string
	answer                     func(ctx context.Context, arg string) (any, error)
}

func (o *Observer) endpoints() []endpoint {
	b := o.cfg.Bus
	return []endpoint{
		{"status", "*", "The record of an operation: ops.api.status.<op>.", func(ctx context.Context, id string) (any, error) {
			return Status(ctx, b, id)
		}},
		{"explain", "*", "Why an operation won or lost: ops.api.explain.<op>.", func(ctx context.Context, id string) (any, error) {
			return Explain(ctx, b, id)
		}},
		{"entity", ">", "An entity, a version or a field of it: ops.api.entity.user-42~3.counter.", func(ctx context.Context, addr string) (any, error) {
			a, err := ParseAddr(addr)
			if err != nil {
				return nil, err
			}
			return Value(ctx, b, a)
		}},
		{"history", "*", "Every change of an entity: ops.api.history.<id>.", func(ctx context.Context, id string) (any, error) {
			return History(ctx, b, strings.TrimPrefix(id, "@"))
		}},
		{"lineage", "*", "Ancestors, descendants and versions of an entity: ops.api.lineage.<id>.", func(ctx context.Context, id string) (any, error) {
			return Lineage(ctx, b, strings.TrimPrefix(id, "@"))
		}},
		{"stats", "", "Counters, rates and backlog of the whole system.", func(context.Context, string) (any, error) {
			return o.Stats(), nil
		}},
		{"health", "", "How the system does, and why not better.", func(context.Context, string) (any, error) {
			return o.Health(), nil
		}},
		{"executing", "", "The attempts under way and their leases.", func(context.Context, string) (any, error) {
			return o.Executing(), nil
		}},
		{"trace", "", "The last public events; the body says how many, such as 500.", func(ctx context.Context, last string) (any, error) {
			n, err := traceLast(last, o.roles().EventBuffer)
			if err != nil {
				return nil, err
			}
			t, err := ReadTrace(ctx, b, n)
			if err == nil {
				t.shorten(traceBytes)
			}
			return t, err
		}},
	}
}

// serve registers the role and its endpoints. Requests are answered until ctx
// ends.
func (o *Observer) serve(ctx context.Context) (*service.Service, error) {
	s, err := service.Start(o.cfg.Bus.Conn(), service.Config{
		Role: "observer", Name: o.cfg.Name, Version: o.cfg.Version, Logger: o.log,
		Description: "Reads the journal and answers questions about operations, entities and the system.",
	})
	if err != nil {
		return nil, fmt.Errorf("observer: %w", err)
	}
	s.Describe(func() any {
		o.mu.Lock()
		defer o.mu.Unlock()
		return map[string]uint64{"journal_seq": o.p.last, "steps": o.p.total.Steps}
	})
	slots := make(chan struct{}, apiConcurrent)
	for _, e := range o.endpoints() {
		var args []string
		if e.pattern != "" {
			args = []string{e.pattern}
		}
		prefix := bus.APISubject(e.verb) + "."
		err := s.Endpoint(e.verb, bus.APISubject(e.verb, args...), e.description, func(r micro.Request) {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			o.answers.Go(func() {
				defer func() { <-slots }()
				arg := strings.TrimPrefix(r.Subject(), prefix)
				if e.pattern == "" {
					arg = string(r.Data())
				}
				o.respond(ctx, r, arg, e.answer)
			})
		})
		if err != nil {
			_ = s.Stop()
			return nil, fmt.Errorf("observer: %w", err)
		}
	}
	return s, nil
}

func (o *Observer) respond(ctx context.Context, r micro.Request, arg string, answer func(context.Context, string) (any, error)) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	v, err := answer(ctx, arg)
	if err == nil {
		err = service.RespondJSON(r, v)
	} else {
		err = service.RespondError(r, asError(err))
	}
	if err != nil {
		o.log.Warn("question not answered", "subject", r.Subject(), "error", err)
	}
}

// asError is an error as a client may see it.
func asError(err error) *op.Error {
	if e := op.AsError(err); e != nil {
		return e
	}
	return op.Errorf(op.CodeUnavailable, "", "%v", err)
}

// HealthHandler serves [Health] as JSON: 503 when the status is failed, else 200.
func (o *Observer) HealthHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := o.Health()
		code := http.StatusOK
		if h.Status == Broken {
			code = http.StatusServiceUnavailable
		}
		o.json(w, code, h)
	})
}

// StatsHandler serves [Stats] as JSON.
func (o *Observer) StatsHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { o.json(w, http.StatusOK, o.Stats()) })
}

func (o *Observer) json(w http.ResponseWriter, code int, v any) {
	body, err := op.Marshal(v)
	if err != nil {
		http.Error(w, "not encodable", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if _, err := w.Write(append(body, '\n')); err != nil {
		o.log.Debug("answer not written", "error", err)
	}
}
