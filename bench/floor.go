package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/internal/natsd"
)

// floorPartitions is the number at which the floor is fastest on two cores.
const floorPartitions = 4

// floor is the path of an operation without anything that Hierarchy is for: no
// validation, no ranking, no entities, no events, no views. What it costs is the
// substrate's price.
type floor struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	cancel context.CancelFunc
	n      int
}

func (f *floor) window() time.Duration { return 0 }

func (f *floor) start(ctx context.Context, s *natsd.Server) error {
	var err error
	if f.nc, err = nats.Connect(s.ClientURL()); err != nil {
		return err
	}
	if f.js, err = jetstream.New(f.nc, jetstream.WithPublishAsyncMaxPending(4000)); err != nil {
		return err
	}
	for _, c := range []jetstream.StreamConfig{
		{Name: "FLOOR_INTAKE", Subjects: []string{"floor.submit.*"}, SubjectTransform: &jetstream.SubjectTransformConfig{
			Source: "floor.submit.*", Destination: fmt.Sprintf("floor.intake.{{partition(%d,1)}}.{{wildcard(1)}}", floorPartitions),
		}},
		{Name: "FLOOR_JOURNAL", Subjects: []string{"floor.journal.*"}},
		{Name: "FLOOR_WORK", Subjects: []string{"floor.work.*"}, Retention: jetstream.WorkQueuePolicy},
	} {
		if _, err := f.js.CreateStream(ctx, c); err != nil {
			return err
		}
	}
	ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if _, err := f.nc.Subscribe("floor.done.*", func(m *nats.Msg) { track.ended(string(m.Data), true) }); err != nil {
		return err
	}
	for p := range floorPartitions {
		if err := f.owner(ctx, s, p); err != nil {
			return err
		}
	}
	return f.worker(ctx, s)
}

func (f *floor) stop() { f.cancel(); f.nc.Close() }

func (f *floor) load(n int) []unit {
	units := make([]unit, n)
	for i := range units {
		f.n++
		id := strconv.Itoa(f.n)
		body, _ := json.Marshal(map[string]any{
			"op_id": id, "op_type": "complex_update", "params": map[string]any{"increment": map[string]int{"counter": 1}},
		})
		units[i] = unit{ids: []string{id}, subject: "floor.submit.e-" + strconv.Itoa(f.n%1000), body: body}
	}
	return units
}

func (f *floor) send(ctx context.Context, units []unit) error { return sendAll(ctx, f.js, units) }

// owner commits the groups of one partition: intake, then results.
func (f *floor) owner(ctx context.Context, s *natsd.Server, p int) error {
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		return err
	}
	c, err := js.OrderedConsumer(ctx, "FLOOR_INTAKE", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{fmt.Sprintf("floor.intake.%d.*", p)},
	})
	if err != nil {
		return err
	}
	in := make(chan []byte, 1024)
	results := make(chan *nats.Msg, 1024)
	if _, err := c.Consume(func(m jetstream.Msg) { in <- m.Data() }, jetstream.PullMaxMessages(500)); err != nil {
		return err
	}
	if _, err := nc.ChanSubscribe("floor.result."+strconv.Itoa(p), results); err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		nc.Close()
	}()
	go f.commit(ctx, nc, js, p, in, results)
	return nil
}

// floorStep is one fenced message: what came in and what ended.
type floorStep struct {
	In  []json.RawMessage `json:"in,omitempty"`
	Out []string          `json:"out,omitempty"`
}

func (f *floor) commit(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, p int, in <-chan []byte, results <-chan *nats.Msg) {
	var seq uint64
	subject := "floor.journal." + strconv.Itoa(p)
	for {
		var step floorStep
		var answers []*nats.Msg
		take := func(m *nats.Msg) { step.Out = append(step.Out, string(m.Data)); answers = append(answers, m) }
		select {
		case <-ctx.Done():
			return
		case m := <-in:
			step.In = append(step.In, m)
		case m := <-results:
			take(m)
		}
		for more := true; more && len(step.In)+len(step.Out) < 500; {
			select {
			case m := <-in:
				step.In = append(step.In, m)
			case m := <-results:
				take(m)
			default:
				more = false
			}
		}
		body, err := json.Marshal(step)
		if err != nil {
			return
		}
		ack, err := js.Publish(ctx, subject, body, jetstream.WithExpectLastSequencePerSubject(seq))
		if err != nil {
			return // the bench notices: operations do not end
		}
		seq = ack.Sequence
		for _, m := range step.In {
			if _, err := js.PublishAsync("floor.work."+strconv.Itoa(p), m); err != nil {
				return
			}
		}
		for i, m := range answers {
			_ = m.Respond(nil)
			_ = nc.Publish("floor.done."+strconv.Itoa(p), []byte(step.Out[i]))
		}
	}
}

// worker executes: it reads the operation and reports it done.
func (f *floor) worker(ctx context.Context, s *natsd.Server) error {
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	c, err := js.CreateOrUpdateConsumer(ctx, "FLOOR_WORK", jetstream.ConsumerConfig{
		Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 20_000,
	})
	if err != nil {
		return err
	}
	slots := make(chan struct{}, 64)
	_, err = c.Consume(func(m jetstream.Msg) {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			var o struct {
				ID string `json:"op_id"`
			}
			if json.Unmarshal(m.Data(), &o) != nil {
				return
			}
			p := m.Subject()[len("floor.work."):]
			if _, err := nc.Request("floor.result."+p, []byte(o.ID), 10*time.Second); err == nil {
				_ = m.Ack()
			}
		}()
	}, jetstream.PullMaxMessages(500))
	go func() {
		<-ctx.Done()
		nc.Close()
	}()
	return err
}
