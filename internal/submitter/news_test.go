package submitter

import (
	"maps"
	"testing"
	"testing/synctest"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Between two news a crowd of submissions gets the room there was, once.
func TestRoomIsGivenAwayOnce(t *testing.T) {
	partition := bus.PartitionOf("user-1", testPartitions)
	for name, c := range map[string]struct {
		load bus.Load
		body string
		let  int // of 100 submissions
	}{
		"on a crowded target":     {bus.Load{MaxOpen: 1000, MaxStaged: 100, Targets: map[string]int{"user-1": 83}}, `{"op_type":"version_entity"}`, 7},
		"two at a time":           {bus.Load{MaxOpen: 1000, MaxStaged: 100, Targets: map[string]int{"user-1": 83}}, `[{"op_type":"version_entity"},{"op_type":"version_entity"}]`, 4},
		"in a partition":          {bus.Load{Open: 44, MaxOpen: 100, MaxStaged: 1000}, `{"op_type":"version_entity"}`, 6},
		"on one that has no news": {bus.Load{MaxOpen: 1000, MaxStaged: 100, Targets: map[string]int{"user-2": 90}}, `{"op_type":"version_entity"}`, 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := fake(newIntakeLog().publish)
				c.load.Partition = partition
				crowd := func() (let int) {
					news := c.load
					news.Targets = maps.Clone(c.load.Targets) // what is let through is counted in it
					s.news.hear(news)
					for range 100 {
						switch _, err := s.Submit(t.Context(), []byte(c.body), "user-1"); code(err) {
						case "":
							let++
						case op.CodeOverloaded:
						default:
							t.Fatal(err)
						}
					}
					return let
				}
				for round := range 2 { // the next news say what room there is by then
					if let := crowd(); let != c.let {
						t.Errorf("round %d: %d were let through, want %d", round, let, c.let)
					}
				}
			})
		})
	}
}
