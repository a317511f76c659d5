package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const reportType = "ops.v1.overload_report"

// report is what a run found.
type report struct {
	Type       string  `json:"type"`
	Seconds    float64 `json:"seconds"`
	Capacity   float64 `json:"capacity_per_s"` // of the hot entity
	Factor     float64 `json:"factor"`
	OnConflict string  `json:"on_conflict"`
	Offered    float64 `json:"sent_per_s"`
	Ended      float64 `json:"ended_per_s"` // on the hot entity, however
	Drain      float64 `json:"drain_s"`     // from the last submission to the last end
	Others     int     `json:"others"`
	Light      float64 `json:"light_per_s"`
	Hot        account `json:"hot"`
	Light100   account `json:"light"`
	All        group   `json:"all_others"`
	Elsewhere  group   `json:"others_in_other_partitions"`
	Beside     group   `json:"others_in_the_hot_partition"`
	Edge       group   `json:"others_acknowledged"`
	Memory     memory  `json:"memory"`
	CPU        float64 `json:"cpu_s"` // of the process during the overload
	Verified   bool    `json:"verified"`
}

// group are some of the others.
type group struct {
	Alone   latency `json:"alone"`
	Pressed latency `json:"under_overload"`
}

func (g *group) tell(w io.Writer, name string) {
	a, p := &g.Alone, &g.Pressed
	fmt.Fprintf(w, "  %s\n", name)
	fmt.Fprintf(w, "    alone           p50 %8.2f  p99 %8.2f  max %8.2f ms  (%d)\n", a.P50, a.P99, a.Max, a.N)
	fmt.Fprintf(w, "    under overload  p50 %8.2f  p99 %8.2f  max %8.2f ms  (%d)\n", p.P50, p.P99, p.Max, p.N)
	fmt.Fprintf(w, "    ratio           p50 %8.2f  p99 %8.2f\n", p.P50/max(a.P50, 0.01), g.ratio())
}

// ratio is how many times the p99 is what it was.
func (g *group) ratio() float64 { return g.Pressed.P99 / max(g.Alone.P99, 0.01) }

// latency is in milliseconds.
type latency struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// memory is the resident memory of the process, in MB. Samples begin with the
// overload; the figures leave out the first quarter of it.
type memory struct {
	Samples []float64 `json:"samples_mb"` // five a second
	Min     float64   `json:"min_mb"`
	Median  float64   `json:"median_mb"`
	Max     float64   `json:"max_mb"`
	Spread  float64   `json:"spread"` // (max-min)/median
	Growth  float64   `json:"growth"` // median of the last quarter, of that of the second
}

// sampleEvery is the pause between two looks at the memory.
const sampleEvery = 200 * time.Millisecond

// watcher looks at the memory of a process until it is stopped.
type watcher struct {
	quit chan struct{}
	done chan []float64
}

func watch(pid int) *watcher {
	w := &watcher{quit: make(chan struct{}), done: make(chan []float64)}
	go func() {
		var all []float64
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-w.quit:
				w.done <- all
				return
			case <-tick.C:
				if mb, err := resident(pid); err == nil {
					all = append(all, mb)
				}
			}
		}
	}()
	return w
}

func (w *watcher) stop() memory {
	close(w.quit)
	return summarise(<-w.done)
}

func summarise(all []float64) memory {
	m := memory{Samples: all}
	n := len(all)
	if n < 4 {
		return m
	}
	sorted := slices.Sorted(slices.Values(all[n/4:]))
	m.Min, m.Median, m.Max = sorted[0], quantile(sorted, 0.5), sorted[len(sorted)-1]
	m.Spread = (m.Max - m.Min) / m.Median
	m.Growth = quantile(slices.Sorted(slices.Values(all[n*3/4:])), 0.5) / quantile(slices.Sorted(slices.Values(all[n/4:n/2])), 0.5)
	return m
}

// resident reads the resident memory of a process in MB, on Linux.
func resident(pid int) (float64, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("the system does not tell")
}

// cpuTime reads the processor time that a process has used so far, in seconds, on
// Linux; 0 where the system does not tell.
func cpuTime(pid int) float64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name before it may have blanks
	fields := strings.Fields(rest)
	const user, system, ticks = 11, 12, 100 // a second: the kernel's promise to programs
	if len(fields) <= system {
		return 0
	}
	var sum float64
	for _, i := range []int{user, system} {
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0
		}
		sum += n
	}
	return sum / ticks
}

// quantile of sorted values; 0 where there are none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "one entity takes %.0f operations a second (on_conflict %s); asked for %.0f, which is %.1f times as many, for %.0f s\n",
		r.Capacity, r.OnConflict, r.Offered, r.Offered/r.Capacity, r.Seconds)
	fmt.Fprintf(w, "  sent      %d: %d accepted, %d refused, %d without an answer; %d more held back by this program\n",
		r.Hot.Sent, r.Hot.Accepted, sum(r.Hot.Refused), r.Hot.Silent, r.Hot.Held)
	fmt.Fprintf(w, "  refused   %s\n", list(r.Hot.Refused))
	fmt.Fprintf(w, "  ended     %s; %d open; %.0f a second, the last one %.1f s after the last submission\n", list(r.Hot.Ends), r.Hot.Open, r.Ended, r.Drain)
	m := r.Memory
	fmt.Fprintf(w, "  memory    %.0f to %.0f MB, median %.0f: spread %.0f %%; last quarter %.2f of the second\n", m.Min, m.Max, m.Median, 100*m.Spread, m.Growth)
	fmt.Fprintf(w, "  processor %.1f s, %.2f s a thousand submissions\n", r.CPU, 1000*r.CPU/float64(max(r.Hot.Sent, 1)))
	fmt.Fprintf(w, "%d others with %.0f operations a second: %d sent, refused %s, ended %s\n",
		r.Others, r.Light, r.Light100.Sent, list(r.Light100.Refused), list(r.Light100.Ends))
	r.All.tell(w, "all of them")
	r.Elsewhere.tell(w, "in other partitions")
	r.Beside.tell(w, "in the partition of the hot one")
	r.Edge.tell(w, "until acknowledged, all of them")
}

func sum(counts map[string]int) (n int) {
	for _, k := range counts {
		n += k
	}
	return n
}

func list(counts map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, counts[k]))
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// overloaded are the codes that say: later.
var overloaded = []string{"OPS-1021"}

// judge returns everything that must not be.
func (r *report) judge(o *options) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, a := range []*account{&r.Hot, &r.Light100} {
		if a.Silent > 0 {
			fail("%d submissions were not answered", a.Silent)
		}
		if a.Open > 0 || sum(a.Ends) != a.Accepted {
			fail("%d were accepted, and %d have ended", a.Accepted, sum(a.Ends))
		}
		for code, n := range a.Refused {
			if !slices.Contains(overloaded, code) {
				fail("%d were refused with %s", n, code)
			}
		}
		if a.Bare > 0 {
			fail("%d refusals do not say when to come back", a.Bare)
		}
	}
	if n := sum(r.Hot.Refused) + r.Hot.Ends["overloaded"] + r.Hot.Ends["staging_full"] + r.Hot.Ends["lower_priority"] + r.Hot.Ends["later_submission"]; n == 0 {
		fail("nothing was refused, so there was no overload: the run proves nothing")
	}
	if a := &r.Light100; a.Succeeded != a.Sent {
		fail("of %d operations on the others, %d succeeded", a.Sent, a.Succeeded)
	}
	if r.Memory.Growth > o.growth {
		fail("memory grew to %.2f of what it was", r.Memory.Growth)
	}
	if o.ratio > 0 && r.All.ratio() > o.ratio {
		fail("the p99 of the others is %.2f times what it was", r.All.ratio())
	}
	if o.verify && !r.Verified {
		fail("the history breaks an invariant")
	}
	return errors.Join(errs...)
}
