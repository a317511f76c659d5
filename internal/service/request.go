package service

import (
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// request answers by itself. Micro looks at its own request when its handler has
// returned, so one of those must not be answered later, from another goroutine;
// and a handler that takes time has to do that, because requests arrive one by one.
// What is lost is the count of errors in micro's statistics.
type request struct {
	micro.Request
	nc *nats.Conn
}

// Respond answers with data.
func (r request) Respond(data []byte, opts ...micro.RespondOpt) error {
	return r.send(&nats.Msg{Data: data}, opts)
}

// RespondJSON answers with v as encoding/json writes it.
func (r request) RespondJSON(v any, opts ...micro.RespondOpt) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %w", micro.ErrMarshalResponse, err)
	}
	return r.Respond(data, opts...)
}

// Error answers with the headers of an error.
func (r request) Error(code, description string, data []byte, opts ...micro.RespondOpt) error {
	if code == "" || description == "" {
		return fmt.Errorf("%w: an error has a code and a description", micro.ErrArgRequired)
	}
	return r.send(&nats.Msg{Data: data, Header: nats.Header{
		micro.ErrorHeader: {description}, micro.ErrorCodeHeader: {code},
	}}, opts)
}

func (r request) send(m *nats.Msg, opts []micro.RespondOpt) error {
	if m.Subject = r.Reply(); m.Subject == "" {
		return nats.ErrMsgNoReply
	}
	for _, set := range opts {
		set(m)
	}
	if err := r.nc.PublishMsg(m); err != nil {
		return fmt.Errorf("%w: %w", micro.ErrRespond, err)
	}
	return nil
}
