// Command overload asks for far more than a system can do, and says what that does
// to everybody else.
//
//	go run ./bench/overload -duration 2m
//
// It runs `hierarchy dev` as a process of its own, finds out how many operations a
// second one entity can take, and then submits ten times as many on that one
// through ops.api.submit, while a hundred other entities get a light load from a
// process of its own. It reports
//
//   - the memory of that process over time, from a quarter of the overload on:
//     least, median, greatest, their spread, and how the last quarter compares
//     with the second;
//   - what became of each submission, by code and reason;
//   - how long the others took, from submission to the news of the end, without
//     the hot load and with it, and the ratio; those in the partition of the hot
//     entity for themselves, since they share its resolver's steps; and how much
//     of it is the acknowledgement.
//
// It exits with 1 when something accepted did not end, when a submission was
// neither accepted nor refused with a code that says when to come back, when an
// operation of the others did not succeed, when the history breaks an invariant,
// or when memory grew by more than -growth.
//
// This program and the system share the machine, so that an overload costs both of
// them processor time: only ratios within one run mean anything. Whoever overloads a
// system does it from machines of their own, so this program takes what the system
// and the others leave of the processors, where threads have priorities (Linux).
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
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

type options struct {
	duration time.Duration
	factor   float64
	rate     float64
	others   int
	light    float64
	conflict string
	clients  int
	growth   float64
	ratio    float64
	verify   bool
	json     string
	asOthers string
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", 20*time.Second, "of the overload")
	flag.Float64Var(&o.factor, "factor", 10, "submissions on the hot entity, as a multiple of what it can take")
	flag.Float64Var(&o.rate, "rate", 0, "what the hot entity can take, operations a second; 0 measures it")
	flag.IntVar(&o.others, "others", 100, "entities with a light load")
	flag.Float64Var(&o.light, "light", 100, "operations a second on all the others together")
	flag.StringVar(&o.conflict, "on-conflict", "queue", "of the hot operations: queue, reject or retry")
	flag.IntVar(&o.clients, "clients", 1000, "requests without an answer at most, as of that many clients: beyond that the rate is what the system lets it be")
	flag.Float64Var(&o.growth, "growth", 0, "most that memory may grow from the second quarter of the overload to the last; 0: 1.25, and 2 in a run of less than a minute")
	flag.Float64Var(&o.ratio, "ratio", 0, "most times that the p99 of the others may be what it is alone; 0: not judged")
	flag.BoolVar(&o.verify, "verify", true, "check the whole history in the end")
	flag.StringVar(&o.json, "json", "", "also write the report into this file; - is stdout, and then there is nothing else")
	flag.StringVar(&o.asOthers, "as-others", "", "used by this program itself: the address of the server for which this process is the others")
	flag.Parse()
	if o.growth == 0 {
		// The collector is given room when it costs too much, which may be late in a
		// short run, and caches fill: it sees little else.
		if o.growth = 1.25; o.duration < time.Minute {
			o.growth = 2
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := run
	if o.asOthers != "" {
		do = func(ctx context.Context, o *options) error { return asOthers(ctx, o.asOthers, o, os.Stdin, os.Stdout) }
	}
	if err := do(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "overload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	dir, err := os.MkdirTemp("", "hierarchy-overload-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := start(ctx, dir)
	if err != nil {
		return err
	}
	r, err := measure(ctx, s, o)
	if err == nil && o.verify {
		say("checking the history")
		r.Verified = s.command(ctx, "verify", "--quiescent", "--server", s.url) == nil
	}
	if err := errors.Join(err, s.stop()); err != nil {
		return err
	}
	if err := r.write(o); err != nil {
		return err
	}
	return r.judge(o)
}

// say tells a person how far it is.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// site is the process under load.
type site struct {
	program string
	url     string
	dev     *exec.Cmd
	ended   chan error
}

// start builds the program and runs a whole system in one process.
func start(ctx context.Context, dir string) (*site, error) {
	s := &site{program: filepath.Join(dir, "hierarchy"), ended: make(chan error, 1)}
	build := exec.CommandContext(ctx, "go", "build", "-o", s.program, "./cmd/hierarchy")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "url")
	s.dev = exec.CommandContext(ctx, s.program, "dev", "--store", filepath.Join(dir, "store"), "--port", "0", "--http", "", "--url-file", file)
	s.dev.Env = append(os.Environ(), "OPS_LOG_LEVEL=error")
	if err := s.dev.Start(); err != nil {
		return nil, err
	}
	go func() { s.ended <- s.dev.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if url, err := os.ReadFile(file); err == nil {
			s.url = strings.TrimSpace(string(url))
			return s, nil
		}
		select {
		case <-tick.C:
		case err := <-s.ended:
			return nil, fmt.Errorf("the system ended before it was ready: %w", err)
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.stop())
		}
	}
}

func (s *site) stop() error {
	if err := s.dev.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return <-s.ended
}

func (s *site) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// measure goes through the phases.
func measure(ctx context.Context, s *site, o *options) (r *report, err error) {
	nc, err := nats.Connect(s.url)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	hot, err := newLoad(nc, []string{"hot"}, o)
	if err != nil {
		return nil, err
	}
	light, err := startOthers(ctx, s.url, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, light.stop()) }()
	if err := standBack(); err != nil {
		return nil, fmt.Errorf("stand back: %w", err)
	}
	r = &report{Type: reportType, Seconds: o.duration.Seconds(), Factor: o.factor, Others: o.others, Light: o.light, OnConflict: o.conflict}
	if err := hot.create(ctx); err != nil {
		return nil, err
	}
	if r.Capacity = o.rate; r.Capacity == 0 {
		say("how much one entity can take")
		if r.Capacity, err = hot.capacity(ctx, 4*time.Second); err != nil {
			return nil, err
		}
	}
	quiet := max(o.duration/4, 5*time.Second)
	say("the others alone, for %s", quiet)
	alone, err := light.run(quiet)
	if err != nil {
		return nil, err
	}
	r.All.Alone, r.Beside.Alone, r.Elsewhere.Alone, r.Edge.Alone = alone.All, alone.Beside, alone.Elsewhere, alone.Edge
	hot.reset()
	say("%.0f operations a second on one entity, which can take %.0f, for %s", o.factor*r.Capacity, r.Capacity, o.duration)
	return r, overload(ctx, s, o, r, hot, light)
}

// overload is the phase that this is about.
func overload(ctx context.Context, s *site, o *options, r *report, hot *load, light *others) error {
	memory := watch(s.dev.Process.Pid)
	began, used := time.Now(), cpuTime(s.dev.Process.Pid)
	var pressed phase
	done := make(chan error, 1)
	go func() {
		var err error
		pressed, err = light.run(o.duration)
		done <- err
	}()
	err := hot.run(ctx, o.factor*r.Capacity, o.duration)
	took := time.Since(began)
	r.CPU = cpuTime(s.dev.Process.Pid) - used
	r.Memory = memory.stop()
	ended := hot.ended()
	if err = errors.Join(err, hot.drain(ctx), <-done); err != nil {
		return err
	}
	r.Drain = time.Since(began).Seconds() - took.Seconds()
	r.Hot, r.Light100 = hot.account(), pressed.Account
	r.All.Pressed, r.Beside.Pressed, r.Elsewhere.Pressed, r.Edge.Pressed = pressed.All, pressed.Beside, pressed.Elsewhere, pressed.Edge
	r.Offered = float64(r.Hot.Sent) / took.Seconds()
	r.Ended = float64(ended) / took.Seconds()
	return nil
}

// write prints the report.
func (r *report) write(o *options) error {
	if o.json != "" {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		data = append(data, '\n')
		if o.json == "-" {
			_, err = os.Stdout.Write(data)
			return err
		}
		if err := os.WriteFile(o.json, data, 0o600); err != nil {
			return err
		}
	}
	r.print(os.Stdout)
	return nil
}
