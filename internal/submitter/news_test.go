package submitter

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

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

// Whether it may be tight is asked before every request: news that are old say
// nothing, however much was let through since.
func TestOldNewsAreNotTight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n news
		is := func(want bool, when string) {
			t.Helper()
			if n.tight() != want {
				t.Errorf("%s: tight is %t", when, !want)
			}
		}
		is(false, "without news")
		n.hear(bus.Load{Open: 49, MaxOpen: 100})
		is(false, "less than half full")
		if e := n.admit(0, "user-1"); e != nil {
			t.Error(e)
		}
		is(true, "filled to the half since")
		<-time.After(newsAge + 1)
		is(false, "later")
		for range 100 {
			if e := n.admit(0, "user-1"); e != nil {
				t.Error(e)
			}
		}
		is(false, "with much let through")
		n.hear(bus.Load{Open: 1, MaxOpen: 100, Targets: map[string]int{"user-1": 50}})
		is(true, "with a crowded target")
		<-time.After(newsAge + 1)
		is(false, "long after")
	})
}
