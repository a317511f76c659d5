package arbiter_test

import (
	"flag"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

var seed = flag.Uint64("seed", 20260101, "of the random histories")

// shrinking draws from rapid.
type shrinking struct{ t *rapid.T }

func (s shrinking) draw(what string, n int) int { return rapid.IntRange(0, n-1).Draw(s.t, what) }

// TestMachineAgreesWithOracle shrinks a disagreement to a few operations.
func TestMachineAgreesWithOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(shrinking{t})
		w.wild = rapid.Bool().Draw(t, "wild")
		for range 1 + w.draw("windows", 3) {
			w.window(12)
			if w.wrong != "" {
				t.Fatal(w.wrong)
			}
		}
	})
}

// TestTenThousandWindows plays many more and much fuller windows than rapid
// would. Every second history is a wild one.
func TestTenThousandWindows(t *testing.T) {
	windows := 10_000
	if testing.Short() {
		windows = 1_000
	}
	const shards = 2
	for shard := range shards {
		t.Run(strconv.Itoa(shard), func(t *testing.T) {
			t.Parallel()
			decided, submitted := 0, 0
			for i := shard; i < windows/2; i += shards {
				w := newWorld(newSeeded(*seed, uint64(i)))
				w.wild = i/shards%2 == 0
				for range 2 {
					w.window(fullest)
					if w.wrong != "" {
						t.Fatalf("-seed %d, history %d: %s", *seed, i, w.wrong)
					}
				}
				decided += w.decided
				submitted += len(w.ids)
			}
			t.Logf("%d windows, %d operations, %d decisions", windows/shards, submitted, decided)
			if decided < windows/shards {
				t.Errorf("%d decisions in %d windows: too little happened", decided, windows/shards)
			}
		})
	}
}

// TestEverythingEnds: when nobody submits any more, every grant is answered and
// time passes, no operation stays open (contract §8.2, §8.6).
func TestEverythingEnds(t *testing.T) {
	for i := range fewer(300) {
		w := newWorld(newSeeded(*seed, 1_000_000+uint64(i)))
		w.wild = true
		for range 3 {
			w.window(40)
		}
		ended := w.quiesce(5_000)
		if w.wrong != "" {
			t.Fatalf("-seed %d, history %d: %s", *seed, i, w.wrong)
		}
		if open := w.watch.open(); !ended || len(open) > 0 {
			t.Fatalf("-seed %d, history %d: open after everything ended: %v", *seed, i, open)
		}
		if left := w.m.Leftovers(); left != "" {
			t.Fatalf("-seed %d, history %d: left after everything ended: %s", *seed, i, left)
		}
	}
}
