package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestLoadIsNews(t *testing.T) {
	_, b := single(t, small())
	must(t, b.PublishLoad(bus.Load{Partition: 3, Open: 1})) // nobody listens yet
	heard := make(chan bus.Load, 8)
	stop, err := b.WatchLoad(func(l bus.Load) { heard <- l })
	must(t, err)
	for _, body := range []string{`{"type":"ops.v1.load","partition":2}`, `{"type":"ops.v1.noise","partition":3}`, `[]`} {
		must(t, b.Conn().Publish(bus.LoadSubject(3), []byte(body)))
	}
	want := bus.Load{Type: bus.LoadType, Partition: 3, Open: 7, MaxOpen: 10, Targets: map[string]int{"door": 4}, MaxStaged: 5, RetryAfterMS: 250}
	must(t, b.PublishLoad(want))
	if got := <-heard; got.Open != 7 || got.MaxOpen != 10 || got.Targets["door"] != 4 || got.MaxStaged != 5 || got.RetryAfterMS != 250 || got.Type != bus.LoadType {
		t.Errorf("%+v, want %+v", got, want)
	}
	stop()
	must(t, b.PublishLoad(want))
	must(t, b.Conn().Flush())
	if len(heard) > 0 {
		t.Error("news after the end")
	}
}

func TestWhatIfIsAnsweredByTheOwner(t *testing.T) {
	_, b := single(t, small())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := b.WhatIf(ctx, 2, []byte("{}")); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("a partition without an owner: %v", err)
	}
	stop, err := b.WhatIfs(2, func(data []byte, reply func([]byte)) { reply(append([]byte("re: "), data...)) })
	must(t, err)
	defer stop()
	answer, err := b.WhatIf(ctx, 2, []byte("{}"))
	if err != nil || string(answer) != "re: {}" {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestARefusedPolicyIsSeen(t *testing.T) {
	_, b := single(t, small())
	if _, found, err := b.PolicyRefused(t.Context()); found || err != nil {
		t.Fatalf("nothing was refused: %v, %v", found, err)
	}
	rev, err := b.PutPolicy(t.Context(), []byte("nonsense"))
	must(t, err)
	for range 2 { // two resolvers
		must(t, b.RefusePolicy(t.Context(), bus.PolicyRefusal{Revision: rev, Error: op.Errorf(op.CodeBadPolicy, "types.x.schema", "no")}))
	}
	r, found, err := b.PolicyRefused(t.Context())
	if err != nil || !found || r.Revision != rev || r.Error == nil || r.Error.Field != "types.x.schema" || r.Type != bus.PolicyRefusalType {
		t.Errorf("%+v, %v, %v", r, found, err)
	}
	if data, got, err := b.Policy(t.Context()); err != nil || got != rev || string(data) != "nonsense" {
		t.Errorf("the policy itself: %q at %d, %v", data, got, err)
	}
}
