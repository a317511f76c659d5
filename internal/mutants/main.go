package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

func main() {
	which := flag.String("run", "", "only mutants whose name matches this `pattern`")
	jobs := flag.Int("j", runtime.NumCPU(), "so `many` at once")
	list := flag.Bool("list", false, "tell what there is, and run nothing")
	verbose := flag.Bool("v", false, "show what the failing tests print")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *which, max(1, *jobs), *list, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1) //nolint:gocritic // there is nothing left to stop
	}
}

func run(ctx context.Context, w io.Writer, which string, jobs int, list, verbose bool) error {
	pattern, err := regexp.Compile(which)
	if err != nil {
		return err
	}
	all := table()
	if err := check(all); err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(m mutant) bool { return !pattern.MatchString(m.name) })
	if len(all) == 0 {
		return fmt.Errorf("no mutant is called like %q", which)
	}
	if list {
		for i := range all {
			fmt.Fprintf(w, "%-36s %s\n%-36s %s %s: %s\n", all[i].name, all[i].wrong, "", all[i].pkg, all[i].run, all[i].says)
		}
		return nil
	}
	root, err := module(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is in the folder for such things
	return hunt(ctx, w, &lab{root: root, dir: dir}, all, jobs, verbose)
}

// module is the root of the repository.
func module(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	return filepath.Dir(string(bytes.TrimSpace(out))), nil
}

// hunt runs every test without a fault, then every mutant, and prints a line for
// each as it ends.
func hunt(ctx context.Context, w io.Writer, l *lab, all []mutant, jobs int, verbose bool) error {
	begun := time.Now()
	red := baseline(ctx, l, all, jobs)
	fmt.Fprintf(w, "%d tests pass without a fault, %d do not (%.0f s)\n\n", countTests(all)-len(red), len(red), time.Since(begun).Seconds())
	var mu sync.Mutex
	missed := 0
	each(jobs, len(all), func(i int) {
		m := &all[i]
		var v verdict
		if err := red[m.test]; err != nil {
			v.why = fmt.Sprintf("its test %s %s: %v", m.pkg, m.run, err)
		} else {
			v = l.try(ctx, m, strconv.Itoa(i))
		}
		mu.Lock()
		defer mu.Unlock()
		if v.caught {
			fmt.Fprintf(w, "caught  %-36s %5.1f s  %s %s: %s\n", m.name, v.took.Seconds(), m.pkg, v.by, m.says)
		} else {
			missed++
			fmt.Fprintf(w, "MISSED  %-36s %5.1f s  %s\n        %s\n", m.name, v.took.Seconds(), v.why, m.wrong)
		}
		if verbose || !v.caught && v.out != "" {
			fmt.Fprintln(w, tail(v.out))
		}
	})
	fmt.Fprintf(w, "\n%d mutants: %d caught, %d not; %.0f s, %d at once\n", len(all), len(all)-missed, missed, time.Since(begun).Seconds(), jobs)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d were not caught as named", missed, len(all))
	}
	return nil
}

func countTests(all []mutant) int {
	tests := map[test]bool{}
	for i := range all {
		tests[all[i].test] = true
	}
	return len(tests)
}

// baseline runs every test that mutants name on the code as it is, and returns
// those that do not pass.
func baseline(ctx context.Context, l *lab, all []mutant, jobs int) map[test]error {
	byPackage := map[string][]test{}
	var packages []string
	for i := range all {
		t := all[i].test
		if byPackage[t.pkg] == nil {
			packages = append(packages, t.pkg)
		}
		if !slices.Contains(byPackage[t.pkg], t) {
			byPackage[t.pkg] = append(byPackage[t.pkg], t)
		}
	}
	var mu sync.Mutex
	red := map[test]error{}
	each(jobs, len(packages), func(i int) {
		binary := filepath.Join(l.dir, "clean"+strconv.Itoa(i)+".test")
		broken := l.build(ctx, packages[i], binary, "")
		for _, t := range byPackage[packages[i]] {
			err := broken
			if err == nil {
				err = l.passes(ctx, binary, t)
			}
			if err = errors.Join(err, ctx.Err()); err != nil {
				mu.Lock()
				red[t] = err
				mu.Unlock()
			}
		}
	})
	return red
}

// each calls f for 0 … n-1, so many at once.
func each(jobs, n int, f func(int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
