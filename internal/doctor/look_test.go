package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/internal/service"
)

func newBus(t *testing.T) (context.Context, *bus.Bus) {
	t.Helper()
	s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	if _, err := bus.Setup(ctx, nc, bus.DefaultLayout()); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, b
}

// TestLook looks at a real server with one role, one lease and a bad policy.
func TestLook(t *testing.T) {
	ctx, b := newBus(t)
	m, err := b.Join(ctx, "r1", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Leave(context.Background()) })
	s, err := service.Start(b.Conn(), service.Config{Role: "executor", Name: "e1", Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	if _, err := b.PutPolicy(ctx, []byte(`{"staging_window":"soon"}`)); err != nil {
		t.Fatal(err)
	}
	work, err := b.Work(ctx, "default", 4)
	if err != nil || work == nil {
		t.Fatal(err)
	}
	f, err := Look(ctx, b, Options{Version: "1.2.3", NoMonitor: true})
	if err != nil {
		t.Fatal(err)
	}
	if f.Server.ID != b.Conn().ConnectedServerId() || f.Server.MaxPayload == 0 || f.Server.RTT <= 0 {
		t.Errorf("server %+v", f.Server)
	}
	if f.Skew.Abs() > time.Second || f.SkewError <= 0 {
		t.Errorf("the clock of the same machine is off by %s ± %s", f.Skew, f.SkewError)
	}
	if len(f.Leases) != 1 || f.Leases[0] != "r1" || len(f.Roles) != 1 || f.Roles[0].Name != "e1" {
		t.Errorf("leases %v, roles %+v", f.Leases, f.Roles)
	}
	if len(f.Partitions) != 16 || f.Partitions[3].ID != 3 || f.Partitions[3].Owner != "" {
		t.Errorf("partitions %+v", f.Partitions)
	}
	j := f.stream(bus.StreamJournal)
	if j == nil || !j.File || j.Async || j.Replicas != 1 || j.MaxMsgs > 0 || len(f.Streams) != len(f.Changes)-consumers(f.Changes) {
		t.Errorf("streams %+v", f.Streams)
	}
	if len(f.Pools) != 1 || f.Pools[0].Name != "default" || !f.Pools[0].Known {
		t.Errorf("pools %+v", f.Pools)
	}
	if f.Policy.Revision != 1 || !strings.Contains(f.Policy.Error, "soon") || f.AccountError != "" || f.Account.Streams < 10 {
		t.Errorf("policy %+v, account %+v %s", f.Policy, f.Account, f.AccountError)
	}
}

// consumers counts the objects that are no streams.
func consumers(changes []bus.Change) (n int) {
	for _, c := range changes {
		if strings.Contains(c.Object, ">") {
			n++
		}
	}
	return n
}

// TestMonitors reads what a real server answers, shortened, and refuses what is
// no monitoring port. Nothing is believed of a server that nobody named, unless
// it is the one we are connected to.
func TestMonitors(t *testing.T) {
	body := `{"server_id":"NA","now":"2026-01-01T00:00:00Z","server_name":"n1","version":"2.15.2","jetstream":{"config":{"max_storage":1000,"sync_interval":120000000000,"sync_always":true},"stats":{"storage":7}}}`
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/varz":
			fmt.Fprint(w, body)
		case "/mute/varz":
			fmt.Fprint(w, body)
		case "/mute/healthz":
			panic(http.ErrAbortHandler) // cuts the connection off
		case "/healthz":
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"status":"error","status_code":503,"error":"JetStream is not current"}`)
		case "/plain/varz":
			fmt.Fprint(w, `{"server_id":"NA"}`)
		case "/text/varz":
			fmt.Fprint(w, `hello`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(web.Close)
	got := monitors(t.Context(), []string{web.URL + "/", web.URL + "/plain", web.URL + "/text", web.URL + "/none", web.URL + "/mute"}, Server{})
	m := got[0]
	if m.Error != "" || m.ID != "NA" || m.Server != "n1" || !m.SyncAlways || m.SyncInterval != 2*time.Minute || m.Store != 7 || m.MaxStore != 1000 || m.Guessed ||
		m.Unhealthy != "JetStream is not current" || m.Skew.Abs() < time.Hour {
		t.Errorf("%+v", m)
	}
	if m := got[4]; m.Error != "" || m.Server != "n1" || !m.SyncAlways || !strings.HasPrefix(m.Unhealthy, "/healthz: ") {
		t.Errorf("a server whose health does not answer: %+v", m)
	}
	for i, want := range []string{"", "no JetStream", "not the monitoring port", "404"} {
		if i > 0 && !strings.Contains(got[i].Error, want) {
			t.Errorf("%s: %q, want %q", got[i].URL, got[i].Error, want)
		}
	}
	if guessed := monitors(t.Context(), nil, Server{URL: "nats://127.0.0.1:4222", ID: "another"}); guessed != nil {
		t.Errorf("a server that nobody named was believed: %+v", guessed)
	}
}

// TestMonitorOfARealServer reads what a server says that syncs always, and one that
// does not.
func TestMonitorOfARealServer(t *testing.T) {
	for _, always := range []bool{true, false} {
		s, err := natsserver.NewServer(&natsserver.Options{
			ServerName: "real", Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, HTTPHost: "127.0.0.1", HTTPPort: natsserver.RANDOM_PORT,
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: always, NoLog: true, NoSigs: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("the server is not ready")
		}
		m := monitors(t.Context(), []string{"http://" + s.MonitorAddr().String()}, Server{})[0]
		if m.Error != "" || m.Server != "real" || m.ID != s.ID() || m.SyncAlways != always || m.Unhealthy != "" {
			t.Errorf("%+v", m)
		}
		if m.Skew.Abs() > time.Second || m.SkewError <= 0 {
			t.Errorf("the clock of the same machine is off by %s ± %s", m.Skew, m.SkewError)
		}
	}
}

// TestDrift changes streams behind the back of setup, and has that named.
func TestDrift(t *testing.T) {
	ctx, b := newBus(t)
	change := func(stream string, f func(*jetstream.StreamConfig)) {
		t.Helper()
		s, err := b.JetStream().Stream(ctx, stream)
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		f(&c)
		if _, err := b.JetStream().UpdateStream(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	change(bus.StreamJournal, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
	change(bus.StreamEvents, func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 })
	f, err := Look(ctx, b, Options{NoMonitor: true})
	if err != nil {
		t.Fatal(err)
	}
	r := Judge(f)
	for _, want := range []struct{ check, says string }{
		{"layout", bus.StreamJournal}, {"layout", bus.StreamEvents}, {"limits", "history will be lost"},
	} {
		found := false
		for _, x := range r.Findings {
			found = found || x.Check == want.check && (x.Level == Bad || x.Level == Warning) && strings.Contains(x.Text, want.says) && x.Hint != ""
		}
		if !found {
			t.Errorf("%v is not among %+v", want, r.Findings)
		}
	}
	for _, p := range r.Promises {
		if (p.Number == 5 || p.Number == 8) && p.Level != Bad {
			t.Errorf("a journal with limits: %+v", p)
		}
	}
}

// TestAServerIsAway looks at three servers of which one is away.
func TestAServerIsAway(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	c, nc := natstest.Three(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	t.Cleanup(cancel)
	l := bus.DefaultLayout()
	l.Replicas, l.Partitions = 3, 1
	if _, err := bus.Setup(ctx, nc, l); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(100 * time.Millisecond) // the servers have to get on meanwhile
	defer tick.Stop()
	look := func() (*Report, *Stream) { // while there is a leader to ask
		for {
			<-tick.C
			f, err := Look(ctx, b, Options{NoMonitor: true})
			if err == nil {
				return Judge(f), f.stream(bus.StreamJournal)
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	about := func(r *Report, level Level) (n int) {
		for _, x := range r.Findings {
			if x.Check == "streams" && x.Level == level {
				n++
			}
		}
		return n
	}
	for { // until all followers are current
		if r, j := look(); about(r, OK) == 1 && len(j.Servers) == 3 && j.Replicas == 3 {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the streams did not become current")
		}
	}
	victim := (c.Leader(bus.StreamJournal) + 1) % 3
	c.StopServer(victim)
	for {
		r, j := look()
		if about(r, Warning) > 0 && j.Missing == 1 {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("nobody misses server %d: %+v", victim, r.Findings)
		}
	}
}
