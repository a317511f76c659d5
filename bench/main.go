package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
)

// measurement is what one run of one case saw.
type measurement struct {
	Case          string  `json:"case"`
	Operations    int     `json:"operations"`
	Rate          float64 `json:"ops_per_s"`
	Effects       float64 `json:"effects_per_s"`
	IdleP50       float64 `json:"idle_p50_ms"`
	IdleP99       float64 `json:"idle_p99_ms"`
	PacedP50      float64 `json:"paced_500_p50_ms"`
	PacedP99      float64 `json:"paced_500_p99_ms"`
	Stored        float64 `json:"stored_messages_per_op"`
	Group         float64 `json:"operations_per_step"`
	CPU           float64 `json:"cpu_s_per_1000"`
	RSS           float64 `json:"rss_peak_mb"`
	SucceededPart float64 `json:"succeeded_share"`
}

var cases = []string{"floor", "single", "bulk", "burst", "hot"}

func main() {
	var (
		rounds = flag.Int("rounds", 5, "rounds; each runs every case once")
		only   = flag.String("cases", strings.Join(cases, ","), "cases to run, comma-separated")
		ops    = flag.Int("ops", 20_000, "operations of the throughput phase")
		out    = flag.String("json", "", "file for the measurements as JSON; - is stdout, and then there is no table")
		prof   = flag.String("cpuprofile", "", "with -case: write a CPU profile of it to this file")
		one    = flag.String("case", "", "run one case in this process and print its measurement (used by bench itself)")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *one != "" {
		err = runOne(ctx, *one, *ops, *prof)
	} else {
		err = runAll(ctx, *rounds, strings.Split(*only, ","), *ops, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runOne(ctx context.Context, name string, ops int, profile string) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	m, err := measure(ctx, name, ops)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}

func runAll(ctx context.Context, rounds int, names []string, ops int, out string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var all []measurement
	for r := range rounds {
		for _, name := range names {
			if !slices.Contains(cases, name) {
				return fmt.Errorf("no case %q; there are %s", name, strings.Join(cases, ", "))
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", r+1, rounds, name)
			m, err := child(ctx, self, name, ops)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, m)
		}
	}
	if out == "-" {
		return json.NewEncoder(os.Stdout).Encode(all)
	}
	if out != "" {
		data, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, append(data, '\n'), 0o600); err != nil {
			return err
		}
	}
	return printTable(os.Stdout, names, all)
}

// child runs one case in a process of its own, so that processor time and memory
// are that case's alone.
func child(ctx context.Context, self, name string, ops int) (measurement, error) {
	var m measurement
	cmd := exec.CommandContext(ctx, self, "-case", name, "-ops", fmt.Sprint(ops))
	cmd.Stderr = os.Stderr
	data, err := cmd.Output()
	if err != nil {
		return m, errors.Join(err, ctx.Err())
	}
	return m, json.Unmarshal(data, &m)
}
