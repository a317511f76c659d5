package bus_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
)

func TestOpenWithoutSetup(t *testing.T) {
	s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Port: natsd.NoListener})
	must(t, err)
	t.Cleanup(s.Stop)
	nc, err := s.Connect()
	must(t, err)
	t.Cleanup(nc.Close)
	if _, err := bus.Open(t.Context(), nc); !errors.Is(err, bus.ErrNotSetUp) {
		t.Fatalf("open: %v, want ErrNotSetUp", err)
	}
	changes, err := bus.Diff(t.Context(), nc, small())
	must(t, err)
	for _, c := range changes {
		if c.Action != bus.ActionCreated {
			t.Errorf("%s would be %s on an empty server", c.Object, c.Action)
		}
	}
	if _, err := bus.Open(t.Context(), nc); !errors.Is(err, bus.ErrNotSetUp) {
		t.Fatalf("a dry run has set the server up: %v", err)
	}
}

func TestSetupIsIdempotent(t *testing.T) {
	_, b := single(t, small())
	if got := b.Layout(); got != small() {
		t.Errorf("layout read back: %+v", got)
	}
	changes, err := bus.Setup(t.Context(), b.Conn(), small())
	must(t, err)
	if len(changes) != 12 {
		t.Errorf("%d objects, want 12", len(changes))
	}
	for _, c := range changes {
		if c.Action != bus.ActionUnchanged {
			t.Errorf("%s: %s (%s), want unchanged", c.Object, c.Action, c.Detail)
		}
	}
}

func TestSetupUpdatesWhatItMay(t *testing.T) {
	_, b := single(t, small())
	want := small()
	want.MaxIntakeMsgs, want.EventsMaxAge = 77, time.Hour
	changes, err := bus.Setup(t.Context(), b.Conn(), want)
	must(t, err)
	var updated []string
	for _, c := range changes {
		if c.Action == bus.ActionUpdated {
			updated = append(updated, c.Object)
		}
	}
	if !slices.Equal(updated, []string{bus.StreamIntake, bus.StreamEvents}) {
		t.Errorf("updated %v", updated)
	}
	if got := open(t, b.Conn()).Layout(); got != want {
		t.Errorf("layout after the update: %+v", got)
	}
}

func TestSetupRefusesDrift(t *testing.T) {
	cases := map[string]struct {
		harm func(t *testing.T, b *bus.Bus, l *bus.Layout)
		want string
	}{
		"partitions": {func(_ *testing.T, _ *bus.Bus, l *bus.Layout) { l.Partitions = 8 }, "partition(8,2)"},
		"storage":    {func(_ *testing.T, _ *bus.Bus, l *bus.Layout) { l.Storage = jetstream.MemoryStorage }, "storage"},
		"subjects": {func(t *testing.T, b *bus.Bus, _ *bus.Layout) {
			s, err := b.JetStream().Stream(t.Context(), bus.StreamWork)
			must(t, err)
			cfg := s.CachedInfo().Config
			cfg.Subjects = []string{"ops.work.>"}
			_, err = b.JetStream().UpdateStream(t.Context(), cfg)
			must(t, err)
		}, "ops.work.>"},
		"retention": {func(t *testing.T, b *bus.Bus, _ *bus.Layout) {
			must(t, b.JetStream().DeleteStream(t.Context(), bus.StreamWork))
			_, err := b.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: bus.StreamWork, Subjects: []string{"ops.work.*.*.*.*"}})
			must(t, err)
		}, "retention"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, b := single(t, small())
			l := small()
			l.MaxIntakeMsgs = 5 // would be an update
			c.harm(t, b, &l)
			_, err := bus.Setup(t.Context(), b.Conn(), l)
			var drift *bus.DriftError
			if !errors.As(err, &drift) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("setup: %v, want drift that names %q", err, c.want)
			}
			if got := open(t, b.Conn()).Layout(); got != small() {
				t.Errorf("a refused setup has changed the layout: %+v", got)
			}
			if _, err := bus.Diff(t.Context(), b.Conn(), l); err != nil {
				t.Errorf("diff: %v, want the drift as a change", err)
			}
		})
	}
}

func TestLayoutIsChecked(t *testing.T) {
	_, b := single(t, small())
	for _, l := range []bus.Layout{{}, {Partitions: 4, Replicas: 2}, {Partitions: 5000, Replicas: 1}} {
		if _, err := bus.Setup(t.Context(), b.Conn(), l); err == nil {
			t.Errorf("accepted %+v", l)
		}
	}
}

func TestEveryObjectIsDescribed(t *testing.T) {
	_, b := single(t, small())
	n := 0
	for s := range b.JetStream().ListStreams(t.Context()).Info() {
		n++
		if s.Config.Description == "" || s.Config.Metadata["hierarchy.schema"] == "" {
			t.Errorf("%s has no description or metadata", s.Config.Name)
		}
		if s.Config.AllowDirect {
			t.Errorf("%s answers direct reads, which may be stale", s.Config.Name)
		}
	}
	if n != 11 {
		t.Errorf("%d streams, want 11", n)
	}
}

func TestALayoutThatNoServerTakes(t *testing.T) {
	for want, spoil := range map[string]func(*bus.Layout){
		"":                     func(l *bus.Layout) { l.Partitions, l.Replicas, l.EventsMaxAge = 1024, 5, 0 },
		"partitions 0":         func(l *bus.Layout) { l.Partitions = 0 },
		"partitions 1025":      func(l *bus.Layout) { l.Partitions = 1025 },
		"replicas 2":           func(l *bus.Layout) { l.Replicas = 2 },
		"events_max_age -1ns":  func(l *bus.Layout) { l.EventsMaxAge = -1 },
		"records_max_age -1ns": func(l *bus.Layout) { l.RecordsMaxAge = -1 },
	} {
		l := bus.DefaultLayout()
		spoil(&l)
		err := l.Check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
		if want == "" {
			continue
		}
		if _, again := bus.Diff(t.Context(), nil, l); again == nil || again.Error() != err.Error() {
			t.Errorf("%q: setup says %v", want, again)
		}
	}
}
