package scenarios

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// An id is one submission for ever: sent again after everything has died and come
// back, also in other words, it has the outcome that it had, and no second effect.
func TestAnIDIsOneSubmissionAcrossARestart(t *testing.T) {
	s := newSite(t, quick)
	roles := func() []*program { return []*program{s.resolver("r1"), s.executor("x1")} }
	running := roles()
	made := s.create(1)
	s.settle(60*time.Second, made)

	const pair = `[{"op_id":"won","op_type":"complex_update","priority":8,"params":{"increment":{"n":1}}},
		{"op_id":"lost","op_type":"complex_update","priority":2,"params":{"increment":{"n":1}}}]`
	s.publish("t-0", pair)
	counts := s.settle(60*time.Second, &load{ids: []string{"won", "lost"}})
	if counts[op.Succeeded] != 1 || counts[op.Rejected] != 1 {
		t.Fatalf("of two contenders, %v", counts)
	}
	before := map[string]op.Record{"won": s.record("won"), "lost": s.record("lost")}

	again := func(when string) {
		t.Helper()
		s.publish("t-0", pair)
		s.publish("t-0", `{"op_id":"won","op_type":"complex_update","priority":10,"params":{"increment":{"n":100}}}`)
		s.publish("t-0", `{"op_id":"lost","op_type":"version_entity","priority":10,"on_conflict":"queue"}`)
		// What comes later in the log has ended, so all of that was read.
		s.publish("t-0", `{"op_id":"`+when+`","op_type":"complex_update","priority":1,"on_conflict":"queue","params":{"increment":{"n":1}}}`)
		if counts := s.settle(60*time.Second, &load{ids: []string{when}}); counts[op.Succeeded] != 1 {
			t.Fatalf("%s: what came after is %v", when, counts)
		}
		for id, want := range before {
			if diff := cmp.Diff(want, s.record(id)); diff != "" {
				t.Errorf("%s: %s has another outcome (-before +after):\n%s", when, id, diff)
			}
		}
	}
	again("while-it-runs")

	s.nats.kill()
	for _, p := range running {
		p.kill()
	}
	s.nats = s.server()
	roles()
	again("after-the-restart")

	// One effect of the pair, and one of each that came after.
	s.account(map[op.Status]int{op.Succeeded: 1 + 1 + 2}, 1)
	for name, want := range map[op.EventName]int{op.EventRejected: 1, op.EventSubmitted: 1 + 2 + 2} {
		if n := s.events(name); n != want {
			t.Errorf("%d events %s, want %d", n, name, want)
		}
	}
	s.verify()
}

// publish submits a body and waits for the promise.
func (s *site) publish(target, body string) {
	s.t.Helper()
	s.eventually(30*time.Second, "the log to take a submission", func() bool {
		_, err := s.bus.Publish(s.t.Context(), bus.SubmitSubject(target), []byte(body), op.NewID(), nil)
		return err == nil
	})
}

func (s *site) record(id string) (r op.Record) {
	s.t.Helper()
	s.eventually(30*time.Second, "the record of "+id, func() bool {
		data, found, err := s.bus.Record(s.t.Context(), id)
		return err == nil && found && json.Unmarshal(data, &r) == nil
	})
	return r
}
