package bus_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
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

// mute is a connection whose writes may go nowhere.
type mute struct {
	net.Conn
	silent atomic.Bool
}

func (m *mute) Write(b []byte) (int, error) {
	if m.silent.Load() {
		return len(b), nil
	}
	return m.Conn.Write(b)
}

// dialer remembers the last connection.
type dialer struct{ last atomic.Pointer[mute] }

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), network, address)
	m := &mute{Conn: c}
	d.last.Store(m)
	return m, err
}

// A connection that breaks while somebody begins to listen says so with the error of
// one that is closed for good. Whoever listens is heard when it is back.
func TestListeningSurvivesABrokenConnection(t *testing.T) {
	s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir()})
	must(t, err)
	t.Cleanup(s.Stop)
	var d dialer
	nc, err := nats.Connect(s.ClientURL(), nats.SetCustomDialer(&d), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	must(t, err)
	defer nc.Close()
	_, err = bus.Setup(t.Context(), nc, small())
	must(t, err)
	b := open(t, nc)
	before := nc.NumSubscriptions()

	d.last.Load().silent.Store(true)
	began := make(chan error, 2)
	loads := make(chan bus.Load, 1)
	go func() {
		_, err := b.WatchLoad(func(l bus.Load) { loads <- l })
		began <- err
	}()
	go func() {
		_, err := b.Results(1, func(data []byte, reply func([]byte)) { reply(data) })
		began <- err
	}()
	eventually(t, 10*time.Second, "both to listen", func() bool { return nc.NumSubscriptions() == before+2 })
	must(t, d.last.Load().Close())
	must(t, <-began)
	must(t, <-began)

	eventually(t, 10*time.Second, "the connection to be back", nc.IsConnected)
	must(t, nc.Flush())
	quick, err := s.Connect()
	must(t, err)
	defer quick.Close()
	other := open(t, quick)
	must(t, other.PublishLoad(bus.Load{Partition: 1, Open: 7}))
	if l := <-loads; l.Open != 7 {
		t.Errorf("%+v", l)
	}
	if _, err := other.Report(within(t, 10*time.Second), 1, []byte("{}")); err != nil {
		t.Errorf("a report: %v", err)
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
