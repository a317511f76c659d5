package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is one fault and who has to notice it.
type mutant struct {
	name  string // short and unique: what -run matches
	wrong string // what the system does wrong now, in plain words

	file string // from the root of the repository
	old  string // stands in file exactly once
	new  string // stands there instead

	test // must pass without the fault and fail with it
	says string
}

// test is how a fault is noticed.
type test struct {
	pkg string // directory of the package, from the root of the repository
	run string // pattern for -test.run
}

// Files that have several faults.
const (
	stagingFile   = "internal/arbiter/staging.go"
	resolveFile   = "internal/arbiter/resolve.go"
	graceFile     = "internal/arbiter/grace.go"
	attemptFile   = "internal/arbiter/attempt.go"
	cancelFile    = "internal/arbiter/cancel.go"
	admitFile     = "internal/arbiter/admit.go"
	applyFile     = "internal/entity/apply.go"
	computeFile   = "internal/entity/compute.go"
	journalFile   = "internal/bus/journal.go"
	partitionFile = "internal/resolver/partition.go"
	takeoverFile  = "internal/resolver/takeover.go"
)

func inBus(run string) test { return test{pkg: "internal/bus", run: run} }

func inResolver(run string) test { return test{pkg: "internal/resolver", run: run} }

func inExecutor(run string) test { return test{pkg: "internal/executor", run: run} }

func inSubmitter(run string) test { return test{pkg: "internal/submitter", run: run} }

// life leads the real machines of three partitions through random lives and has
// the auditor read their journals.
var life = test{pkg: "internal/audit", run: "^TestEveryLifeIsJudged$"}

// refusals has submissions with every mistake that a client can make.
var refusals = test{pkg: "pkg/op", run: "^TestDecodeRefuses$"}

// table lists all mutants.
func table() []mutant {
	return slices.Concat(machineMutants, endMutants, entityMutants, journalMutants, roleMutants, edgeMutants)
}

// apply returns the file of m with the fault in it.
func (m *mutant) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return nil, fmt.Errorf("its text stands %d times in %s", n, m.file)
	}
	return []byte(strings.Replace(string(text), m.old, m.new, 1)), nil
}

// check asks what can be asked without running anything.
func check(all []mutant) error {
	seen := map[string]bool{}
	for i := range all {
		m := &all[i]
		switch {
		case m.name == "" || m.wrong == "" || m.file == "" || m.pkg == "" || m.run == "" || m.says == "":
			return fmt.Errorf("mutant %d, %q: something is not filled in", i, m.name)
		case m.old == m.new || m.old == "":
			return fmt.Errorf("mutant %q changes nothing", m.name)
		case strings.Contains(m.says, "_test.go") || strings.Contains(m.says, "FAIL"):
			// Every failure of the test says that, whatever it is about.
			return fmt.Errorf("mutant %q: %q does not say what is wrong", m.name, m.says)
		case seen[m.name]:
			return fmt.Errorf("two mutants are called %q", m.name)
		}
		seen[m.name] = true
	}
	return nil
}
