package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Where a server's monitoring port usually is, and how long it may take to
// answer.
const (
	monitorPort    = "8222"
	monitorTimeout = 2 * time.Second
	monitorBytes   = 1 << 20
)

// monitors asks monitoring ports, or tries the usual one of the server that we
// are connected to. Only they say how often a server syncs its files.
func monitors(ctx context.Context, urls []string, s Server) []Monitor {
	if len(urls) == 0 {
		u, err := url.Parse(s.URL)
		if err != nil || u.Hostname() == "" {
			return nil
		}
		m := ask(ctx, "http://"+net.JoinHostPort(u.Hostname(), monitorPort))
		if m.Error != "" || m.ID != s.ID {
			return nil // nobody said that there is one, or it is another server's
		}
		m.Guessed = true
		return []Monitor{m}
	}
	all := make([]Monitor, len(urls))
	var g errgroup.Group
	for i, u := range urls {
		g.Go(func() error { all[i] = ask(ctx, u); return nil })
	}
	_ = g.Wait() // nobody returns one
	return all
}

func ask(ctx context.Context, address string) Monitor {
	m := Monitor{URL: strings.TrimSuffix(address, "/")}
	if err := m.fill(ctx); err != nil {
		m.Error = err.Error()
	}
	return m
}

// page reads one page of a monitoring port. The clock of the server was read
// between the two instants.
func (m *Monitor) page(ctx context.Context, path string) (code int, body []byte, before, after time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL+path, nil)
	if err != nil {
		return 0, nil, before, after, err
	}
	before = time.Now()
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, before, after, err
	}
	after = time.Now()
	defer r.Body.Close() //nolint:errcheck // it was only read
	body, err = io.ReadAll(io.LimitReader(r.Body, monitorBytes))
	return r.StatusCode, body, before, after, err
}

// fill reads /varz and /healthz.
func (m *Monitor) fill(ctx context.Context) error {
	code, body, before, after, err := m.page(ctx, "/varz")
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("%d %s", code, http.StatusText(code))
	}
	var v struct {
		Now       time.Time `json:"now"`
		ID        string    `json:"server_id"`
		Name      string    `json:"server_name"`
		Version   string    `json:"version"`
		JetStream struct {
			Config *struct {
				SyncAlways   bool          `json:"sync_always"`
				SyncInterval time.Duration `json:"sync_interval"`
				MaxStore     int64         `json:"max_storage"`
			} `json:"config"`
			Stats struct {
				Store uint64 `json:"storage"`
			} `json:"stats"`
		} `json:"jetstream"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return fmt.Errorf("it is not the monitoring port of a NATS server: %w", err)
	}
	if v.JetStream.Config == nil {
		return errors.New("this server has no JetStream")
	}
	c := v.JetStream.Config
	m.Server, m.ID, m.Version = v.Name, v.ID, v.Version
	m.SyncAlways, m.SyncInterval, m.Store, m.MaxStore = c.SyncAlways, c.SyncInterval, v.JetStream.Stats.Store, c.MaxStore
	if !v.Now.IsZero() {
		m.SkewError = after.Sub(before) / 2
		m.Skew = v.Now.Sub(before.Add(m.SkewError))
	}
	m.healthy(ctx)
	return nil
}

// healthy reads /healthz, which tells of a disk that is full or a stream that cannot
// be read. A server that does not answer there, as one whose disk hangs, is not well,
// and what it has said of itself before stands.
func (m *Monitor) healthy(ctx context.Context) {
	code, body, _, _, err := m.page(ctx, "/healthz")
	if err != nil {
		m.Unhealthy = "/healthz: " + err.Error()
		return
	}
	var h struct {
		Status string `json:"status"`
		Error  string `json:"error"`
	}
	if err := json.Unmarshal(body, &h); err != nil || code != http.StatusOK || h.Status != "ok" {
		m.Unhealthy = cmp.Or(h.Error, h.Status, http.StatusText(code))
	}
}

// loopback reports whether an address can only be reached from its own machine.
func loopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}
