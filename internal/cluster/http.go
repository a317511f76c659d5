package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// listen serves metrics, health and statistics on Options.HTTP until the
// cluster is stopped.
func (c *Cluster) listen() error {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", c.opts.HTTP)
	if err != nil {
		return fmt.Errorf("cluster: HTTP: %w", err)
	}
	c.http = l.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", c.metrics.Handler())
	mux.Handle("GET /health", c.observer.HealthHandler())
	mux.Handle("GET /stats", c.observer.StatsHandler())
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !c.ready.Load() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	c.run("http", func(ctx context.Context) error {
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if s.Shutdown(stop) != nil {
				_ = s.Close() // whoever still listens has had time
			}
		}()
		err := s.Serve(l)
		if errors.Is(err, http.ErrServerClosed) {
			<-closed
			return nil
		}
		return err
	})
	return nil
}
