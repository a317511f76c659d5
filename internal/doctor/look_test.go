package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
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
	body := `{"server_id":"NA","server_name":"n1","version":"2.15.2","jetstream":{"config":{"max_storage":1000,"sync_interval":120000000000,"sync_always":true},"stats":{"storage":7}}}`
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/varz":
			fmt.Fprint(w, body)
		case "/plain/varz":
			fmt.Fprint(w, `{"server_id":"NA"}`)
		case "/text/varz":
			fmt.Fprint(w, `hello`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(web.Close)
	got := monitors(t.Context(), []string{web.URL + "/", web.URL + "/plain", web.URL + "/text", web.URL + "/none"}, Server{})
	m := got[0]
	if m.Error != "" || m.ID != "NA" || m.Server != "n1" || !m.SyncAlways || m.SyncInterval != 2*time.Minute || m.Store != 7 || m.MaxStore != 1000 || m.Guessed {
		t.Errorf("%+v", m)
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
