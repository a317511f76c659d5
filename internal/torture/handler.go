package torture

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// handle answers for the handlers of tortureType until the connection is closed.
func handle(nc *nats.Conn) error {
	_, err := nc.QueueSubscribe(executor.HandlerSubject(tortureType), "torture", func(m *nats.Msg) {
		var r struct {
			Operation op.Operation `json:"operation"`
			Attempt   int          `json:"attempt"`
		}
		var b behaviour
		if json.Unmarshal(m.Data, &r) != nil || json.Unmarshal(r.Operation.Params, &b) != nil {
			return // an executor that sends this has a fault: its attempt runs into its lease
		}
		if b.Hang && r.Attempt == 1 {
			return
		}
		time.AfterFunc(time.Duration(b.HoldMS)*time.Millisecond, func() {
			_ = m.Respond(encode(b.answer(r.Operation.ID, r.Attempt))) // unheard: the attempt's lease runs out
		})
	})
	if err != nil {
		return fmt.Errorf("torture: handlers: %w", err)
	}
	return nil
}

type handlerResponse struct {
	Type   string      `json:"type"`
	Effect any         `json:"effect,omitempty"`
	Error  *op.Failure `json:"error,omitempty"`
}

func (b *behaviour) answer(id string, attempt int) handlerResponse {
	r := handlerResponse{Type: executor.ResponseType}
	switch {
	case b.Terminal:
		r.Error = &op.Failure{Code: "tortured", Message: "this never works", Terminal: true}
	case attempt <= b.Fail:
		r.Error = &op.Failure{Code: "tortured", Message: "this does not work yet"}
	default:
		r.Effect = map[string]any{"set": map[string]any{"handled": id}}
	}
	return r
}
