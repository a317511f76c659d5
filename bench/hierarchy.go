package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
)

// hierarchy is the real thing: resolver and executor over sockets, as separate
// processes would use them.
type hierarchy struct {
	name   string
	nc     *nats.Conn
	js     jetstream.JetStream
	conns  []*nats.Conn
	cancel context.CancelFunc
	wg     sync.WaitGroup
	rnd    *rand.Rand
	n      int
}

// window: only the bursts need one, because their operations arrive one by one.
func (h *hierarchy) window() time.Duration {
	if h.name == "burst" {
		return 10 * time.Millisecond
	}
	return 0
}

func (h *hierarchy) stop() {
	h.cancel()
	h.wg.Wait()
	for _, nc := range h.conns {
		nc.Close()
	}
}

func (h *hierarchy) connect(url string) (*nats.Conn, error) {
	nc, err := nats.Connect(url)
	if err == nil {
		h.conns = append(h.conns, nc)
	}
	return nc, err
}

func (h *hierarchy) open(ctx context.Context, url string) (*bus.Bus, error) {
	nc, err := h.connect(url)
	if err != nil {
		return nil, err
	}
	return bus.Open(ctx, nc)
}

func (h *hierarchy) start(ctx context.Context, s *natsd.Server) error {
	h.rnd = rand.New(rand.NewPCG(1, 1)) //nolint:gosec // a workload, not a secret
	var err error
	if h.nc, err = h.connect(s.ClientURL()); err != nil {
		return err
	}
	if h.js, err = jetstream.New(h.nc, jetstream.WithPublishAsyncMaxPending(4000)); err != nil {
		return err
	}
	if _, err := bus.Setup(ctx, h.nc, bus.DefaultLayout()); err != nil {
		return err
	}
	if err := h.policy(ctx, s.ClientURL()); err != nil {
		return err
	}
	for _, subject := range []string{"ops.event.operation.completed.*", "ops.event.operation.rejected.*"} {
		succeeded := strings.Contains(subject, "completed")
		if _, err := h.nc.Subscribe(subject, func(m *nats.Msg) { track.ended(opID(m.Data), succeeded) }); err != nil {
			return err
		}
	}
	ready := make(chan bool, 64)
	ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	resolve, err := h.open(ctx, s.ClientURL())
	if err != nil {
		return err
	}
	execute, err := h.open(ctx, s.ClientURL())
	if err != nil {
		return err
	}
	h.wg.Add(2)
	go func() {
		defer h.wg.Done()
		_ = resolver.Run(ctx, resolver.Config{Bus: resolve, Name: "bench", Ready: func(r bool) { ready <- r }})
	}()
	go func() {
		defer h.wg.Done()
		_ = executor.Run(ctx, executor.Config{Bus: execute, Name: "bench"})
	}()
	for {
		select {
		case r := <-ready:
			if r {
				return nil
			}
		case <-time.After(30 * time.Second):
			return errors.New("the resolver is not ready after 30 s")
		}
	}
}

func (h *hierarchy) policy(ctx context.Context, url string) error {
	b, err := h.open(ctx, url)
	if err != nil {
		return err
	}
	_, err = b.PutPolicy(ctx, fmt.Appendf(nil, `{"staging_window":%q}`, h.window()))
	return err
}

// opID reads the operation's id out of an event without decoding all of it.
func opID(event []byte) string {
	_, rest, ok := bytes.Cut(event, []byte(`"op_id":"`))
	if !ok {
		return ""
	}
	id, _, _ := bytes.Cut(rest, []byte{'"'})
	return string(id)
}

const create = `{"op_id":%q,"op_type":"create_entity","target_entity_id":%q,"priority":10,"on_conflict":"queue","params":{"fields":{"counter":0}}}`

const increment = `{"op_id":%q,"op_type":"complex_update","target_entity_id":%q,"priority":%d,"on_conflict":%q,"params":{"increment":{"counter":1}}}`

// bulkPhase is the size from which a phase is sent as a bulk submitter sends it;
// smaller ones measure the latency of single operations.
const bulkPhase = 1600

// hotPhase keeps a phase within one staging area, so that nothing is shed.
const hotPhase = 1900

// load makes the units of a phase. The first operation on each target creates
// it, in the warm-up.
func (h *hierarchy) load(n int) []unit {
	targets := map[string]int{"single": 1000, "bulk": 1000, "burst": 10, "hot": 1}[h.name]
	if h.n == 0 {
		n = max(n, targets)
	}
	if h.name == "hot" {
		n = min(n, hotPhase)
	}
	var units []unit
	for done := 0; done < n; {
		var u []unit
		if h.name == "burst" && h.n >= targets {
			u = h.burst(targets)
		} else {
			u = []unit{h.one("e-"+strconv.Itoa(h.n%targets), h.n < targets, 5, "queue")}
		}
		done += len(u)
		units = append(units, u...)
	}
	if h.name == "bulk" && n >= bulkPhase {
		return pack(units)
	}
	return units
}

func (h *hierarchy) one(target string, first bool, priority int, onConflict string) unit {
	h.n++
	id := "b-" + strconv.Itoa(h.n)
	body := fmt.Appendf(nil, increment, id, target, priority, onConflict)
	if first {
		body = fmt.Appendf(nil, create, id, target)
	}
	return unit{ids: []string{id}, subject: bus.SubmitSubject(target), body: body}
}

// burst is 3 to 8 operations on one random target, submitted one after another.
func (h *hierarchy) burst(targets int) []unit {
	target := "e-" + strconv.Itoa(h.rnd.IntN(targets))
	units := make([]unit, 3+h.rnd.IntN(6))
	for i := range units {
		units[i] = h.one(target, false, 1+h.rnd.IntN(10), "reject")
	}
	return units
}

func (h *hierarchy) send(ctx context.Context, units []unit) error { return sendAll(ctx, h.js, units) }

// pack puts the operations of a partition into common messages, as a bulk
// submitter does.
func pack(units []unit) []unit {
	const most = 200
	partitions := bus.DefaultLayout().Partitions
	open := make([]unit, partitions)
	var packed []unit
	flush := func(p int) {
		if len(open[p].ids) > 0 {
			open[p].body = append(open[p].body, ']')
			packed = append(packed, open[p])
			open[p] = unit{}
		}
	}
	for _, u := range units {
		target := strings.TrimPrefix(u.subject, "ops.submit.")
		p := bus.PartitionOf(target, partitions)
		if len(open[p].ids) == 0 {
			open[p] = unit{subject: bus.BulkSubject(target), body: []byte{'['}}
		} else {
			open[p].body = append(open[p].body, ',')
		}
		open[p].body = append(open[p].body, u.body...)
		open[p].ids = append(open[p].ids, u.ids...)
		if len(open[p].ids) == most {
			flush(p)
		}
	}
	for p := range open {
		flush(p)
	}
	return packed
}
