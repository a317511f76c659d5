package audit_test

import (
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// twoClients is a history in which two clients have something open: mine-2 and
// yours-2 are staged, and a change of each has asked for a follow-up that has not
// come.
func twoClients() *history {
	h := newHistory()
	h.step(0, nil)
	h.step(0, inputs(policy(func(p *arbiter.Policy) {
		p.WindowByType = map[string]time.Duration{op.TypeModifyField: time.Hour}
	})))
	for i, client := range []string{"mine", "yours"} {
		first, next := operation(client+"-1", client, 5), operation(client+"-2", client, 5, kind(op.TypeModifyField))
		c, ms, seq := created(client), 20*i, uint64(2*i+1)
		c.Follow = []entity.FollowUp{{Target: "e1"}}
		h.step(ms, inputs(submit(seq, first)), accepted(first.ID))
		h.step(ms+10, nil, decision("d"+client, client, ms, ms+10, ms+10, op.RuleOnly, contender(first, seq, op.VerdictWon, "")),
			granted(first.ID, client, 1, 5, "d"+client, ms+10))
		h.step(ms+11, inputs(success(first.ID, client, 1, c), submit(seq+1, next)), succeeded(first.ID, client, 1, 0), accepted(next.ID))
	}
	return h
}

// What others have under way is counted, and not held against who asks about their
// own.
func TestOthersMayHaveSomethingUnderWay(t *testing.T) {
	mine := func(id string) bool { return id[0] == 'm' }
	for _, c := range []struct {
		name    string
		own     func(string) bool
		awaited int
		foreign int
		want    []string
	}{
		{"all", nil, 4, 0, []string{audit.CausesFollowUp, audit.LifeOpen}},
		{"mine", mine, 2, 1, []string{audit.CausesFollowUp, audit.LifeOpen}},
		{"nobody's", func(string) bool { return false }, 0, 2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := twoClients().read(t, audit.Options{Own: c.own})
			if n := a.Awaited(); n != c.awaited {
				t.Errorf("%d awaited, want %d", n, c.awaited)
			}
			r := a.Finish(true)
			wantOnly(t, r, c.want...)
			if r.Open != 2 || r.Foreign != c.foreign || r.ByInvariant[audit.LifeOpen] != 2-c.foreign {
				t.Errorf("%d open, %d foreign, %v", r.Open, r.Foreign, r.ByInvariant)
			}
		})
	}
}
