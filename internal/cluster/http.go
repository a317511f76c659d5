package cluster

import (
	"context"
	"fmt"
	"net/http"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
)

// listen serves metrics, health and statistics on Options.HTTP until the
// cluster is stopped. What is asked of visitors is what a single process asks.
func (c *Cluster) listen(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", c.metrics.Handler())
	// Whichever observer runs now: it may have been restarted.
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) { c.observer.Load().HealthHandler().ServeHTTP(w, r) })
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) { c.observer.Load().StatsHandler().ServeHTTP(w, r) })
	mux.HandleFunc("GET /trace", func(w http.ResponseWriter, r *http.Request) { c.observer.Load().TraceHandler().ServeHTTP(w, r) })
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !c.ready.Load() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	web, err := daemon.ListenHTTP(ctx, c.opts.HTTP, mux, c.opts.Logger)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	c.http, c.web = web.Addr(), web
	return nil
}
