package arbiter_test

import (
	"encoding/json"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

// What a client says about the time of its submission is data and decides nothing
// (contract §2 and §3.4): of two equal operations the earlier one in the log wins.
func TestAClientsClockDecidesNothing(t *testing.T) {
	for _, clocks := range [][2]string{
		{`"2030-01-01T00:00:00Z"`, `"1970-01-01T00:00:00Z"`},
		{`"1970-01-01T00:00:00Z"`, `"2030-01-01T00:00:00Z"`},
		{`9`, `1`},
		{`1`, ``},
		{``, `1`},
	} {
		m := arbiter.New(0)
		first, second := operation("first", "door"), operation("second", "door")
		first.CreatedAt, second.CreatedAt = json.RawMessage(clocks[0]), json.RawMessage(clocks[1])
		m.Step(&arbiter.Step{ID: "a", Number: 1, At: epoch, In: []arbiter.Input{submitted(1, first), submitted(2, second)}})
		at, _ := m.Next()
		s := arbiter.Step{ID: "b", Number: 2, At: at}
		m.Step(&s)
		decided := false
		for _, e := range s.Out {
			if d := e.Decision; d != nil {
				decided = true
				if d.Winner != "first" {
					t.Errorf("created at %s and %s: the later one in the log won", clocks[0], clocks[1])
				}
			}
		}
		if !decided {
			t.Fatal("nothing was decided")
		}
	}
}
