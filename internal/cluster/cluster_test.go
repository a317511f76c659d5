package cluster_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func start(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// do submits an operation and waits for its end.
func do(t *testing.T, b *bus.Bus, o op.Operation) await.End {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w := await.Start(ctx, b)
	defer w.Stop()
	body, err := op.Encode(&o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(ctx, bus.SubmitSubject(o.Target), body, o.ID, nil); err != nil {
		t.Fatal(err)
	}
	w.Expect(o.ID)
	if err := w.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	e, _ := w.End(o.ID)
	return e
}

func TestStoreSurvives(t *testing.T) {
	dir := t.TempDir()
	first := start(t, cluster.Options{StoreDir: dir, Port: cluster.NoListener})
	e := do(t, first.Bus(), op.Operation{ID: "a", Type: op.TypeCreate, Target: "user-42", Priority: op.Normal, Params: json.RawMessage(`{"fields":{"n":1}}`)})
	if e.Status != op.Succeeded {
		t.Fatalf("a is %s %s", e.Status, e.Reason)
	}
	stop(t, first)

	second := start(t, cluster.Options{StoreDir: dir, Port: cluster.NoListener, Resolvers: 2, Executors: 1})
	data, found, err := second.Bus().Entity(t.Context(), "user-42")
	if err != nil || !found || !strings.Contains(string(data), `"n":1`) {
		t.Fatalf("the entity after the restart: %s, found %v, %v", data, found, err)
	}
	e = do(t, second.Bus(), op.Operation{ID: "b", Type: op.TypeVersion, Target: "user-42", Priority: op.Normal})
	if e.Status != op.Succeeded {
		t.Fatalf("b is %s %s", e.Status, e.Reason)
	}
}

func TestHTTPAndServices(t *testing.T) {
	c := start(t, cluster.Options{StoreDir: t.TempDir(), HTTP: "127.0.0.1:0"})
	if !strings.HasPrefix(c.ClientURL(), "nats://127.0.0.1:") {
		t.Errorf("client URL %q", c.ClientURL())
	}
	for path, want := range map[string]string{"/metrics": "ops_build_info", "/readyz": "ok", "/livez": "ok", "/health": "ops.v1.health", "/stats": "ops.v1.stats"} {
		r, err := http.Get("http://" + c.HTTPAddr() + path) //nolint:noctx // a test's server
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %v %.200s", path, r.StatusCode, err, body)
		}
	}
	nc, err := c.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, role := range []string{"submitter", "resolver", "executor", "observer"} {
		m, err := nc.Request("ops.ctl."+role+".status", nil, 5*time.Second)
		if err != nil || !strings.Contains(string(m.Data), `"ready":true`) {
			t.Errorf("status of the %s: %v %v", role, m, err)
		}
	}
}

// The token that guards a single process' pages guards these, too.
func TestHTTPToken(t *testing.T) {
	t.Setenv("OPS_HTTP_TOKEN", "secret")
	c := start(t, cluster.Options{StoreDir: t.TempDir(), Port: cluster.NoListener, HTTP: "127.0.0.1:0"})
	for _, v := range []struct {
		path, token string
		code        int
	}{
		{"/livez", "", http.StatusOK},
		{"/readyz", "", http.StatusOK},
		{"/stats", "", http.StatusUnauthorized},
		{"/metrics", "wrong", http.StatusUnauthorized},
		{"/stats", "secret", http.StatusOK},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.HTTPAddr()+v.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+v.token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != v.code {
			t.Errorf("%s with token %q: %s", v.path, v.token, resp.Status)
		}
	}
}

func TestStartFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = cluster.Start(t.Context(), cluster.Options{StoreDir: t.TempDir(), Port: cluster.NoListener, HTTP: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("an HTTP address in use: %v", err)
	}
	_, err = cluster.Start(t.Context(), cluster.Options{StoreDir: t.TempDir(), Port: l.Addr().(*net.TCPAddr).Port})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a NATS port in use: %v", err)
	}
}
