package sim

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	flagSeed      = flag.Uint64("sim.seed", 0, "one history, with its whole trace")
	flagFirst     = flag.Uint64("sim.first", 1, "the first seed of many")
	flagHistories = flag.Int("sim.histories", 300, "how many histories")
	flagStale     = flag.Bool("sim.stale-views", false, "views, too, may be read from a leader that was deposed")
	flagProgress  = flag.Bool("sim.progress", false, "tell how far it is")
)

// TestMain lets a history of its own be printed without anything around it.
func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // histories are short and leave nothing behind
	if *flagSeed != 0 {
		r := Run(*flagSeed, options())
		r.WriteTrace(os.Stdout, 0)
		fmt.Fprint(os.Stdout, verdict(r))
		if !r.OK() {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func options() Options { return Options{StaleViews: *flagStale} }

// verdict is what there is to say of a history in the end.
func verdict(r *Result) string {
	var b strings.Builder
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "VIOLATION %s\n", f)
	}
	fmt.Fprintf(&b, "seed %d: %d actions, trace %016x, %d violations\n", r.Seed, r.Actions, r.Hash, len(r.Failures))
	return b.String()
}

func TestHistories(t *testing.T) {
	n := *flagHistories
	if testing.Short() {
		n = min(n, 100)
	}
	all, failed := many(*flagFirst, n, *flagProgress)
	if failed != nil {
		failed.WriteTrace(os.Stdout, 60)
		fmt.Fprintf(os.Stdout, "%smake sim SEED=%d prints all of it\n", verdict(failed), failed.Seed)
		t.Fatal(failed.Failures[0])
	}
	if *flagProgress {
		all.Write(os.Stdout)
	}
	if missing := all.Missing(); n >= 300 && len(missing) > 0 {
		all.Write(os.Stdout)
		t.Errorf("these never happened, so the run shows nothing about them: %s", missing)
	}
}

// many runs histories on all processors. It stops at the first one that fails,
// which is the lowest failing seed of those that were begun.
func many(first uint64, n int, progress bool) (all Stats, failed *Result) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next, began := first, time.Now()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				seed := next
				if seed >= first+uint64(n) || failed != nil {
					mu.Unlock()
					return
				}
				next++
				mu.Unlock()
				r := Run(seed, options())
				mu.Lock()
				all.add(&r.Stats)
				if !r.OK() && (failed == nil || seed < failed.Seed) {
					failed = r
				}
				if progress && all.Histories%1000 == 0 {
					fmt.Fprintf(os.Stdout, "%6d histories, %d operations, %d steps, %.1f s\n", all.Histories, all.Operations, all.Steps, time.Since(began).Seconds())
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all, failed
}

// A seed is a complete report: it makes the same history, action by action.
func TestASeedIsAHistory(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		var text [2]bytes.Buffer
		for i := range text {
			r := Run(seed, options())
			r.WriteTrace(&text[i], 0)
			text[i].WriteString(verdict(r))
		}
		if !bytes.Equal(text[0].Bytes(), text[1].Bytes()) {
			t.Fatalf("seed %d made two histories", seed)
		}
		if text[0].Len() < 2000 {
			t.Errorf("seed %d: a trace of %d bytes is none", seed, text[0].Len())
		}
	}
	if a, b := Run(1, options()), Run(2, options()); a.Hash == b.Hash {
		t.Error("two seeds made one history")
	}
}
