package bus_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestSubjectsRoundTrip(t *testing.T) {
	for _, name := range op.EventNames() {
		n, target, err := bus.ParseEvent(bus.EventSubject(name, "door-1"))
		if err != nil || n != name || target != "door-1" {
			t.Errorf("%s: %s, %s, %v", name, n, target, err)
		}
	}
	pool, typ, p, target, err := bus.ParseWork(bus.WorkSubject("gpu", "modify_field", 12, "door"))
	if err != nil || pool != "gpu" || typ != "modify_field" || p != 12 || target != "door" {
		t.Errorf("work: %s %s %d %s %v", pool, typ, p, target, err)
	}
	if p, err := bus.ParseJournal(bus.JournalSubject(7)); err != nil || p != 7 {
		t.Errorf("journal: %d, %v", p, err)
	}
	for got, want := range map[string]string{
		bus.SubmitSubject("a"):                 "ops.submit.a",
		bus.CancelSubject("a"):                 "ops.cancel.a",
		bus.BulkSubject("a"):                   "ops.bulk.a",
		bus.FollowSubject("a"):                 "ops.follow.a",
		bus.ResultSubject(3):                   "ops.result.3",
		bus.LoadSubject(3):                     "ops.load.3",
		bus.WhatIfSubject(3):                   "ops.whatif.3",
		bus.APISubject("get", "entity", "a"):   "ops.api.get.entity.a",
		bus.APISubject("submit"):               "ops.api.submit",
		bus.EventFilter("operation.*", ""):     "ops.event.operation.*.*",
		bus.EventFilter("", "a"):               "ops.event.*.*.a",
		bus.EventFilter("entity.created", "a"): "ops.event.entity.created.a",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestPartitionIsTheServers compares our hash with the subjects that the server
// has stored.
func TestPartitionIsTheServers(t *testing.T) {
	l := small()
	l.Partitions = 16
	_, b := single(t, l)
	want := map[uint64]string{}
	for i := range 200 {
		target := fmt.Sprintf("%x-%s_Z", i*7919, strings.Repeat("k", i%50))
		ack, err := b.Publish(t.Context(), bus.SubmitSubject(target), nil, "", nil)
		must(t, err)
		want[ack.Seq] = target
	}
	seen := 0
	for p := range l.Partitions {
		n := 0
		last, err := b.LastIntake(t.Context(), p)
		must(t, err)
		f, err := b.Intake(t.Context(), p, 0)
		must(t, err)
		for m := range f.C() {
			n++
			if m.Key != want[m.Seq] || bus.PartitionOf(m.Key, l.Partitions) != p || m.Kind != bus.KindSubmit {
				t.Fatalf("sequence %d: %s %s in partition %d, want %s in %d", m.Seq, m.Kind, m.Key, p, want[m.Seq], bus.PartitionOf(want[m.Seq], l.Partitions))
			}
			if m.Seq == last {
				break
			}
		}
		seen += n
	}
	if seen != len(want) {
		t.Errorf("%d messages in all partitions, want %d", seen, len(want))
	}
}

func FuzzParseIntake(f *testing.F) {
	for _, s := range []string{
		"ops.intake.0.submit.a", "ops.intake.15.bulk.door-1", "ops.intake.3.follow.x", "ops.intake.3.cancel.x", "ops.intake.3.control.7",
		"ops.intake.03.submit.a", "ops.intake.-1.submit.a", "ops.intake.1.steal.a", "ops.intake.1.submit.a.b",
		"ops.submit.a", "", "....", "ops.intake.1.submit.", "ops.intake.99999999999999999999.submit.a", "ops.intake.1.submit.\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, kind, key, err := bus.ParseIntake(s)
		if err != nil {
			if p != 0 || kind != "" || key != "" {
				t.Fatalf("%q: values beside an error", s)
			}
			return
		}
		if again := fmt.Sprintf("ops.intake.%d.%s.%s", p, kind, key); again != s {
			t.Fatalf("%q reads as %q", s, again)
		}
		if strings.Contains(key, ".") || p < 0 {
			t.Fatalf("%q: key %q, partition %d", s, key, p)
		}
	})
}

func FuzzParseEvent(f *testing.F) {
	for _, s := range []string{"ops.event.operation.rejected.a", "ops.event.operation.a", "ops.event.*.*.>", "ops.event.a.b.c.d", "ops.event...", "ops.event.entity.created.\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, target, err := bus.ParseEvent(s)
		if err == nil && (bus.EventSubject(name, target) != s || !op.Token(target)) {
			t.Fatalf("%q reads as %q, %q", s, name, target)
		}
	})
}

func FuzzParseWork(f *testing.F) {
	for _, s := range []string{"ops.work.default.modify_field.3.a", "ops.work.*.x.3.a", "ops.work.p.x.+3.a", "ops.work.p.x.3.", "ops.work.x.3.a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		pool, typ, p, target, err := bus.ParseWork(s)
		if err == nil && bus.WorkSubject(pool, typ, p, target) != s {
			t.Fatalf("%q reads as %q, %q, %d, %q", s, pool, typ, p, target)
		}
	})
}
