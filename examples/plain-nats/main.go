// Command plain-nats uses no library of ours: a message on ops.submit.<target> is a
// submission, what happens comes as events, and an entity is a value in a bucket.
// Any NATS client in any language can do this; docs/protocol.md has every subject
// and body.
//
// Output:
//
//	durable: sequence 1 of OPS_INTAKE
//	operation.submitted create-1
//	operation.promoted create-1
//	operation.started create-1
//	operation.completed create-1
//	entity.created create-1
//	user-42 = {"name":"Bob"}
//	refused: OPS-1011 priority "URGENT" is neither a name nor a number from 1 to 10
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/pkg/optest"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	system, err := optest.Open(ctx, optest.WithListener())
	if err != nil {
		return err
	}
	defer system.Close()

	nc, err := nats.Connect(system.URL())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}

	// Everything that happens to user-42, from now on. A durable consumer of the
	// stream OPS_EVENTS sees the past as well, and goes on where it was.
	events, err := nc.SubscribeSync("ops.event.*.*.user-42")
	if err != nil {
		return err
	}

	// The acknowledgement of the stream is the promise that the operation will
	// end. A plain publish would not wait for it.
	ack, err := js.Publish(ctx, "ops.submit.user-42", []byte(`{"op_id":"create-1","op_type":"create_entity","params":{"fields":{"name":"Bob"}}}`))
	if err != nil {
		return err
	}
	fmt.Printf("durable: sequence %d of %s\n", ack.Sequence, ack.Stream)

	for name := ""; name != "entity.created"; {
		m, err := events.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		var e struct {
			Event string `json:"event"`
			OpID  string `json:"op_id"`
		}
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return err
		}
		name = e.Event
		fmt.Println(e.Event, e.OpID)
	}

	entities, err := js.KeyValue(ctx, "OPS_ENTITIES")
	if err != nil {
		return err
	}
	head, err := entities.Get(ctx, "user-42")
	if err != nil {
		return err
	}
	var entity struct {
		Fields json.RawMessage `json:"fields"`
	}
	if err := json.Unmarshal(head.Value(), &entity); err != nil {
		return err
	}
	fmt.Printf("user-42 = %s\n", entity.Fields)

	return request(ctx, nc)
}

// request submits by request and reply, where somebody answers: a mistake is
// refused with a code. In a plain publish it becomes the event
// system.invalid_submission.
func request(ctx context.Context, nc *nats.Conn) error {
	m, err := nc.RequestWithContext(ctx, "ops.api.submit", []byte(`{"op_type":"delete_entity","target_entity_id":"user-42","priority":"URGENT"}`))
	if err != nil {
		return err
	}
	var refusal struct {
		Type    string `json:"type"`
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &refusal); err != nil {
		return err
	}
	if refusal.Type != "ops.v1.error" {
		return errors.New("it was accepted")
	}
	fmt.Printf("refused: %s %s\n", refusal.Code, refusal.Message)
	return nil
}
