package failpoint

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Enable switches on what [Env] asks for, and everything else off. A name or an
// action that does not exist is an error, and then nothing changes.
func Enable() error {
	terms, err := parse(os.Getenv(Env))
	if err != nil {
		return fmt.Errorf("%s: %w", Env, err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, p := range registry {
		p.plan.Store(terms[p])
	}
	on.Store(len(terms) > 0)
	return nil
}

// Term writes one term of [Env]: an action at the n-th hit of a point.
func Term(name string, a Action, n int) string { return fmt.Sprintf("%s=%s@%d", name, a, n) }

func parse(text string) (map[*Point]*plan, error) {
	terms := map[*Point]*plan{}
	for term := range strings.SplitSeq(text, ",") {
		if term = strings.TrimSpace(term); term == "" {
			continue
		}
		name, rest, ok := strings.Cut(term, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not name=action", term)
		}
		mu.Lock()
		p := registry[name]
		mu.Unlock()
		if p == nil {
			return nil, fmt.Errorf("there is no failpoint %q; `hierarchy torture --list` lists them", name)
		}
		if terms[p] != nil {
			return nil, fmt.Errorf("%s is named twice", name)
		}
		plan, err := parsePlan(rest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if !slices.Contains(p.info.Actions(), plan.action) {
			return nil, fmt.Errorf("%s: there is no action %q here; there are %v", name, plan.action, p.info.Actions())
		}
		terms[p] = plan
	}
	return terms, nil
}

// parsePlan reads action, action@N and action%P:SEED.
func parsePlan(text string) (*plan, error) {
	if action, share, ok := strings.Cut(text, "%"); ok {
		share, seed, seeded := strings.Cut(share, ":")
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p > 0 && p <= 100) {
			return nil, fmt.Errorf("%q is no percentage above 0 and up to 100", share)
		}
		n := uint64(1)
		if seeded {
			if n, err = strconv.ParseUint(seed, 10, 64); err != nil {
				return nil, fmt.Errorf("%q is no seed", seed)
			}
		}
		rng := rand.New(rand.NewPCG(n, 0x6661696c)) //nolint:gosec // reproducible on purpose
		return &plan{action: Action(action), chance: p / 100, rng: rng}, nil
	}
	action, at, ok := strings.Cut(text, "@")
	l := &plan{action: Action(action), at: 1}
	if ok {
		n, err := strconv.ParseUint(at, 10, 64)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%q is not the number of a hit, counted from 1", at)
		}
		l.at = n
	}
	return l, nil
}

// Mark begins the line by which a point announces that it acts; its name and the
// action follow, separated by blanks.
const Mark = "failpoint-acts "

// announce writes straight to the file: nothing may be lost in a buffer.
func announce(name string, a Action) {
	_, _ = syscall.Write(2, []byte("\n"+Mark+name+" "+string(a)+"\n")) // nobody to tell when that fails
}

func kill() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

// stop returns when somebody has sent SIGCONT.
func stop() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) }
