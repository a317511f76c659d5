package readme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/internal/service"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
)

// wire is a system without executors, seen through the client library alone:
// what docs/protocol.md says must be enough to be one.
type wire struct {
	t     *testing.T
	doc   *page
	nc    *nats.Conn
	js    jetstream.JetStream
	serve func(func(context.Context, *bus.Bus) error) // runs a role until the test ends
}

func newWire(t *testing.T) *wire {
	t.Helper()
	server, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Port: natsd.NoListener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	connect := func() *nats.Conn {
		nc, err := server.Connect()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	w := &wire{t: t, doc: read(t, "docs/protocol.md"), nc: connect()}
	if w.js, err = jetstream.New(w.nc); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Setup(t.Context(), w.nc, bus.DefaultLayout()); err != nil {
		t.Fatal(err)
	}
	w.serve = func(f func(context.Context, *bus.Bus) error) {
		b, err := bus.Open(t.Context(), connect())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- f(ctx, b) }()
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) { // it may not even have begun
				t.Error(err)
			}
		})
	}
	w.serve(func(ctx context.Context, b *bus.Bus) error {
		return resolver.Run(ctx, resolver.Config{Bus: b, Name: "resolver-a"})
	})
	taking := make(chan struct{})
	w.serve(func(ctx context.Context, b *bus.Bus) error {
		s, err := service.Start(b.Conn(), service.Config{Role: "submitter", Name: "submitter-a"})
		if err != nil {
			return err
		}
		ready := func(on bool) {
			if on {
				close(taking)
			}
		}
		return submitter.Serve(ctx, submitter.ServeConfig{Submitter: submitter.New(submitter.Config{Bus: b}), Service: s, Ready: ready})
	})
	<-taking
	return w
}

// example returns the nth example of a kind in the document, from 0.
func (w *wire) example(kind string, n int) []byte {
	w.t.Helper()
	for i := range w.doc.blocks {
		b := &w.doc.blocks[i]
		if b.info != "json "+kind {
			continue
		}
		if n == 0 {
			return []byte(b.text)
		}
		n--
	}
	w.t.Fatalf("docs/protocol.md has no further example of %s", kind)
	return nil
}

// request sends a body and returns the answer.
func (w *wire) request(subject string, body []byte) []byte {
	w.t.Helper()
	m, err := w.nc.Request(subject, body, 10*time.Second)
	if err != nil {
		w.t.Fatalf("%s: %v", subject, err)
	}
	return m.Data
}

// work fetches the next attempt as any executor does.
func (w *wire) work() jetstream.Msg {
	w.t.Helper()
	c, err := w.js.Consumer(w.t.Context(), "OPS_WORK", "executor-default")
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(30 * time.Second))
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// report sends a result until the owner answers, as the document says.
func (w *wire) report(partition int, result []byte) []byte {
	w.t.Helper()
	return w.request(fmt.Sprintf("ops.result.%d", partition), result)
}

// stored reads the last message of a subject.
func (w *wire) stored(stream, subject string) []byte {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), stream)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(w.t.Context(), subject)
	if err != nil {
		w.t.Fatalf("%s: %v", subject, err)
	}
	return m.Data
}

// next waits for an event.
func (w *wire) next(events *nats.Subscription) *nats.Msg {
	w.t.Helper()
	m, err := events.NextMsg(30 * time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// alike demands that a message has the members of an example, no more and no
// fewer, each of the same JSON type.
func (w *wire) alike(what string, example, got []byte) {
	w.t.Helper()
	if d := cmp.Diff(shape(w.t, example), shape(w.t, got)); d != "" {
		w.t.Errorf("%s (- the example, + what was sent):\n%s\n%s", what, d, got)
	}
}

// shape lists the members of a JSON value with their types.
func shape(t *testing.T, data []byte) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	var all []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				walk(path+"."+k, inner)
			}
			all = append(all, path+" object")
		case []any:
			for _, inner := range v {
				walk(path+"[]", inner)
			}
			all = append(all, path+" array")
		default:
			all = append(all, fmt.Sprintf("%s %T", path, v))
		}
	}
	walk("", v)
	slices.Sort(all)
	return slices.Compact(all)
}

// TestProtocol walks through docs/protocol.md with its own examples: it submits
// them, works on them as an executor in any language would, and compares every
// message on the way with the one that the document shows.
func TestProtocol(t *testing.T) {
	w := newWire(t)
	events, err := w.nc.SubscribeSync("ops.event.operation.*.door-1")
	if err != nil {
		t.Fatal(err)
	}
	w.request("ops.submit.door-1", []byte(`{"op_id":"make-1","op_type":"create_entity","params":{"fields":{"colour":"red"}}}`))
	m := w.work()
	var made struct {
		Partition int `json:"partition"`
	}
	if err := json.Unmarshal(m.Data(), &made); err != nil {
		t.Fatal(err)
	}
	w.report(made.Partition, []byte(`{"type":"ops.v1.result","op_id":"make-1","target_entity_id":"door-1","attempt":1,"executor":"me",`+
		`"change":{"kind":"created","base":0,"id":"door-1","set":{"colour":"red"}}}`))
	if err := m.Ack(); err != nil {
		t.Fatal(err)
	}

	w.alike("the acknowledgement of the stream", w.example("puback", 0), w.request("ops.submit.door-1", w.example("operation", 0)))
	m = w.work()
	if m.Subject() != fmt.Sprintf("ops.work.default.modify_field.%d.door-1", made.Partition) {
		t.Errorf("work came on %s", m.Subject())
	}
	w.alike("work", w.example("work", 0), m.Data())
	if d := cmp.Diff(canonical(t, w.example("result_ack", 1)), canonical(t, w.report(made.Partition, w.example("result", 0)))); d != "" {
		t.Errorf("the answer to the result:\n%s", d)
	}
	if err := m.Ack(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(canonical(t, w.example("result_ack", 2)), canonical(t, w.report(made.Partition, w.example("result", 0)))); d != "" {
		t.Errorf("the answer to the same result again:\n%s", d)
	}

	var seen []string
	for {
		e := w.next(events)
		name := strings.TrimSuffix(strings.TrimPrefix(e.Subject, "ops.event."), ".door-1")
		seen = append(seen, name)
		if name == "operation.completed" && slices.Index(seen, name) < len(seen)-1 { // the second one
			w.alike("event", w.example("event", 0), e.Data)
			break
		}
	}
	w.alike("head", w.example("head", 0), w.stored("KV_OPS_ENTITIES", "$KV.OPS_ENTITIES.door-1"))
	w.alike("record", w.example("record", 0), w.stored("KV_OPS_OPERATIONS", "$KV.OPS_OPERATIONS.paint-1"))
}

// TestProtocolFailure reports the failure of the document.
func TestProtocolFailure(t *testing.T) {
	w := newWire(t)
	events, err := w.nc.SubscribeSync("ops.event.operation.retry.door-1")
	if err != nil {
		t.Fatal(err)
	}
	w.request("ops.submit.door-1", w.example("operation", 0))
	m := w.work()
	var work struct {
		Partition int `json:"partition"`
	}
	if err := json.Unmarshal(m.Data(), &work); err != nil {
		t.Fatal(err)
	}
	w.report(work.Partition, w.example("result", 1))
	if err := m.Ack(); err != nil {
		t.Fatal(err)
	}
	w.alike("retry", w.example("event", 1), w.next(events).Data)
	m = w.work()
	if !strings.Contains(string(m.Data()), `"attempt":2`) {
		t.Errorf("the next attempt is not the second: %s", m.Data())
	}
}

// TestProtocolAPI asks the submitter with the examples of the document.
func TestProtocolAPI(t *testing.T) {
	w := newWire(t)
	answer := w.request("ops.api.submit", []byte(strings.Replace(string(w.example("operation", 0)), `"op_id"`, `"target_entity_id":"door-1","op_id"`, 1)))
	w.alike("accepted", w.example("accepted", 0), answer)
	w.alike("error", w.example("error", 0), w.request("ops.api.submit", []byte(`{"op_typ":"modify_field"}`)))

	// A plain publish has nobody who refuses it.
	events, err := w.nc.SubscribeSync("ops.event.system.invalid_submission.*")
	if err != nil {
		t.Fatal(err)
	}
	w.request("ops.submit.door-1", []byte(`{"op_typ":"modify_field"}`))
	w.alike("invalid", w.example("event", 2), w.next(events).Data)
}
