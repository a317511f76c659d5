package service

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const patience = 10 * time.Second

func connect(t *testing.T) *nats.Conn {
	t.Helper()
	_, nc := natstest.One(t)
	return nc
}

func start(t *testing.T, nc *nats.Conn, name, version string) *Service {
	t.Helper()
	s, err := Start(nc, Config{Role: "executor", Name: name, Version: version, Description: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

// Every instance answers for itself: the status endpoint has no queue group.
func TestStatusOfEveryInstance(t *testing.T) {
	nc := connect(t)
	start(t, nc, "one", "v1.2.3").Describe(func() any { return map[string]int{"running": 3} })
	start(t, nc, "two", "v1.2.3").SetReady(true)

	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("ops.ctl.executor.status", inbox, nil); err != nil {
		t.Fatal(err)
	}
	got := map[string]Status{}
	for range 2 {
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		var s Status
		if err := json.Unmarshal(m.Data, &s); err != nil {
			t.Fatal(err)
		}
		got[s.Name] = s
	}
	if s := got["one"]; s.Ready || s.Type != StatusType || s.Role != "executor" || s.Version != "v1.2.3" || s.StartedAt.IsZero() {
		t.Errorf("status of one: %+v", s)
	}
	if d, ok := got["one"].Data.(map[string]any); !ok || d["running"] != 3.0 {
		t.Errorf("data of one: %v", got["one"].Data)
	}
	if !got["two"].Ready {
		t.Error("two does not say that it is ready")
	}
}

// Instances share an endpoint, and an error carries its code in body and headers.
func TestEndpoint(t *testing.T) {
	nc := connect(t)
	for _, name := range []string{"one", "two"} {
		err := start(t, nc, name, "").Endpoint("fail", "ops.api.fail", "always fails", func(r micro.Request) {
			_ = RespondError(r, op.Errorf(op.CodeWrongType, "priority", "a <b> & c"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("ops.api.fail", inbox, nil); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Header.Get(micro.ErrorCodeHeader); got != "1003" {
		t.Errorf("code in the header: %q", got)
	}
	want := `{"type":"ops.v1.error","code":"OPS-1003","field":"priority","message":"a <b> & c",`
	if got := string(m.Data); len(got) < len(want) || got[:len(want)] != want {
		t.Errorf("body: %s", got)
	}
	// A second reply would have been sent before the answer to what is asked now.
	if _, err := nc.Request("ops.ctl.executor.status", nil, patience); err != nil {
		t.Fatal(err)
	}
	if n, _, _ := sub.Pending(); n != 0 {
		t.Errorf("%d more replies: the instances do not share the endpoint", n)
	}
}

// A handler may answer after it has returned, from another goroutine, with whatever
// a request can be answered with.
func TestAnswersLater(t *testing.T) {
	nc := connect(t)
	err := start(t, nc, "one", "").Endpoint("later", "ops.api.later", "answers later", func(r micro.Request) {
		go func() {
			var err error
			switch string(r.Data()) {
			case "bytes":
				err = r.Respond([]byte("ok"), micro.WithHeaders(micro.Headers{"A": {"b"}}))
			case "json":
				err = r.RespondJSON(map[string]int{"n": 1})
			case "error":
				err = r.Error("1003", "no", []byte("body"))
			}
			if err != nil {
				t.Error(err)
			}
			if r.Error("", "", nil) == nil {
				t.Error("an error without a code is answered")
			}
		}()
	})
	if err != nil {
		t.Fatal(err)
	}
	for ask, want := range map[string]string{"bytes": "ok b ", "json": `{"n":1}  `, "error": "body  1003"} {
		m, err := nc.Request("ops.api.later", []byte(ask), patience)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(m.Data) + " " + m.Header.Get("A") + " " + m.Header.Get(micro.ErrorCodeHeader); got != want {
			t.Errorf("%s: %q", ask, got)
		}
	}
}

func TestListed(t *testing.T) {
	nc := connect(t)
	start(t, nc, "one", "6b67865-dirty")
	m, err := nc.Request("$SRV.INFO.ops-executor", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	if info.Version != "0.0.0" || len(info.Endpoints) != 1 || info.Metadata["name"] != "one" {
		t.Errorf("%+v", info)
	}
}

func TestSemantic(t *testing.T) {
	for in, want := range map[string]string{
		"v1.2.3":              "1.2.3",
		"0.4.0-rc.1":          "0.4.0-rc.1",
		"1.0.0+abc":           "1.0.0+abc",
		"1.0.0-01":            "0.0.0",
		"1.0.0-0a":            "1.0.0-0a",
		"(devel)":             "0.0.0",
		"":                    "0.0.0",
		"6b67865":             "0.0.0",
		"v0.0.0-2026-6b67865": "0.0.0-2026-6b67865",
	} {
		if got := semantic(in); got != want {
			t.Errorf("semantic(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestStopTwice(t *testing.T) {
	nc := connect(t)
	s := start(t, nc, "one", "")
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	if _, err := nc.Request(Subject("executor"), nil, patience); err == nil {
		t.Error("a stopped service answers")
	}
}
