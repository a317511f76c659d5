package optest

import (
	"encoding/json"

	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Client speaks to the system as a program of yours would, through its
// connection. Do not close it.
func (l *Local) Client() *client.Client { return l.client }

// Submit submits one operation and returns its id, which is drawn where o has
// none. The error is that of [client.Client.Submit].
func (s *System) Submit(o op.Operation) (id string, err error) {
	ctx, cancel := s.ctx()
	defer cancel()
	h, err := s.client.Submit(ctx, o)
	if err != nil {
		return "", err
	}
	return h.ID, nil
}

// MustSubmit submits one operation, which must be accepted, and returns its id.
func (s *System) MustSubmit(o op.Operation) (id string) {
	s.tb.Helper()
	id, err := s.Submit(o)
	if err != nil {
		s.tb.Fatalf("optest: submit %s on %s: %v", o.Type, o.Target, err)
	}
	return id
}

// MustSubmitBatch submits operations on one target in one message, so that they
// are staged together and compete, whatever the machine is doing.
func (s *System) MustSubmitBatch(ops ...op.Operation) (ids []string) {
	s.tb.Helper()
	ctx, cancel := s.ctx()
	defer cancel()
	handles, err := s.client.SubmitBatch(ctx, ops)
	if err != nil {
		s.tb.Fatalf("optest: submit %d operations: %v", len(ops), err)
	}
	for _, h := range handles {
		ids = append(ids, h.ID)
	}
	return ids
}

// Do submits one operation, which must be accepted, waits for its end, whichever
// it is, and returns its record.
func (s *System) Do(o op.Operation) op.Record {
	s.tb.Helper()
	return s.Await(s.MustSubmit(o))
}

// Entity returns what an address names, as JSON: @user-42 the whole entity,
// @user-42.name a field, @user-42~1 its first version.
func (s *System) Entity(addr string) string {
	s.tb.Helper()
	ctx, cancel := s.ctx()
	defer cancel()
	a, err := observer.ParseAddr(addr)
	if err != nil {
		s.tb.Fatalf("optest: entity %s: %v", addr, err)
	}
	v, err := observer.Value(ctx, s.c.Bus(), a)
	if err != nil {
		s.tb.Fatalf("optest: entity %s: %v", addr, err)
	}
	return string(v)
}

// Decode reads what an address names into v, as encoding/json does.
func (s *System) Decode(addr string, v any) {
	s.tb.Helper()
	if err := json.Unmarshal([]byte(s.Entity(addr)), v); err != nil {
		s.tb.Fatalf("optest: entity %s: %v", addr, err)
	}
}

// Explain returns in sentences why an operation is where it is.
func (s *System) Explain(id string) []string {
	s.tb.Helper()
	ctx, cancel := s.ctx()
	defer cancel()
	x, err := observer.Explain(ctx, s.c.Bus(), id)
	if err != nil {
		s.tb.Fatalf("optest: explain %s: %v", id, err)
	}
	return x.Text
}
