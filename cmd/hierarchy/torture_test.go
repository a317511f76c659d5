package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
)

// TestTortureCheck: what makes no sense is wrong usage, and says which flag it is.
func TestTortureCheck(t *testing.T) {
	for _, c := range []struct {
		args string
		says string // "": it is fine
	}{
		{"", ""},
		{"--nodes 3", ""},
		{"--nodes 2", "--nodes 2: there are runs on 1 and on 3"},
		{"--nodes 0", "--nodes 0"},
		{"--matrix --actions kill,error --points ^bus.work --repeat 1 --lanes 1", ""},
		{"--matrix --actions foo", "--actions foo: there are kill, stop, panic and error"},
		{"--matrix --actions kill,foo", "--actions foo"},
		{"--matrix --actions=", "--actions is empty"},
		{"--matrix --points zzz", "--points zzz: no failpoint has such a name"},
		{"--matrix --points (", "--points: error parsing regexp"},
		{"--matrix --points bus.work.take --actions error", "can error; "},
		{"--matrix --points bus.work --actions error", ""},
		{"--points bus", "--points is for --matrix"},
		{"--actions kill", "--actions is for --matrix"},
		{"--repeat 3", "--repeat is for --matrix"},
		{"--lanes 3", "--lanes is for --matrix"},
	} {
		var tr torment
		f := pflag.NewFlagSet("torture", pflag.ContinueOnError)
		tr.flags(f)
		if err := f.Parse(strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		err := tr.check(f.Changed)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%q: %v", c.args, err)
		case c.says != "" && (daemon.ExitCode(err) != daemon.ExitUsage || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%q: exit code %d, %v, want one of usage with %q", c.args, daemon.ExitCode(err), err, c.says)
		}
	}
}

// TestPointActions: every action of a failpoint can be asked for.
func TestPointActions(t *testing.T) {
	for _, p := range failpoint.All() {
		for _, a := range p.Actions() {
			if !slices.Contains(pointActions, a) {
				t.Errorf("%s can %s, and nobody may ask for it", p.Name, a)
			}
		}
	}
}
