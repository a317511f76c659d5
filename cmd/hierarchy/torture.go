package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
	"github.com/hierarchy-bus/hierarchy/internal/torture"
)

// torment says how to torture.
type torment struct {
	torture.Options
	list, matrix, quiet, yes bool
	points, file             string
	actions                  []string
}

func (a *app) torture() *cobra.Command {
	var t torment
	cmd := &cobra.Command{
		Use:   "torture",
		Short: "Kill, stop and restart everything under load, and prove that nothing was lost",
		Long: `Starts servers and roles as processes of their own, puts a load on them, kills,
stops and restarts them at named and at random moments, then heals everything and
checks the whole history. Exits with 0 only if every acknowledged operation has
exactly one end, every invariant holds, and every target was served in time.

With --server, --context or NATS_URL it is your system that is tortured. None of
your processes is touched: it starts resolvers, executors and submitters of its
own, which share the work with yours, and kills those; leaders of streams and
consumers are asked to step down. Your operations are decided by its resolvers,
too, and will wait while one of them is dead. It wants --yes for that.`,
		Example: `  hierarchy torture                                # 25 s at random, one server
  hierarchy torture --nodes 3 --duration 10m --seed 7
  hierarchy torture --matrix                       # every failpoint × kill, stop, panic, 20 times each
  hierarchy torture --matrix --points 'journal' --actions kill --repeat 3
  hierarchy torture --list
  hierarchy torture --server nats://127.0.0.1:4222 --yes`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if t.list {
				return a.listPoints()
			}
			return a.runTorture(cmd, &t)
		},
	}
	t.flags(cmd.Flags())
	cmd.AddCommand(part())
	return cmd
}

func (t *torment) flags(f *pflag.FlagSet) {
	f.BoolVar(&t.list, "list", false, "list the failpoints and end")
	f.BoolVar(&t.matrix, "matrix", false, "drive processes into every failpoint instead of torturing at random")
	f.DurationVar(&t.Duration, "duration", 25*time.Second, "of the load and the faults; healing and checking come on top")
	f.IntVar(&t.Nodes, "nodes", 1, "servers to start: 1 or 3")
	f.Uint64Var(&t.Seed, "seed", 0, "of everything that is drawn (default: drawn, and printed)")
	f.Float64Var(&t.Rate, "rate", 100, "operations a second")
	f.IntVar(&t.Overlap, "overlap", 3, "faults under way at once; 1: one at a time")
	f.BoolVar(&t.Sync, "sync", false, "have the servers write to the disk before each acknowledgement")
	f.StringVar(&t.points, "points", "", "with --matrix: only the failpoints that match this expression")
	f.StringSliceVar(&t.actions, "actions", nil, "with --matrix: kill, stop, panic, error (default kill,stop,panic)")
	f.IntVar(&t.Repeat, "repeat", 20, "with --matrix: how often each failpoint acts in each way")
	f.IntVar(&t.Lanes, "lanes", 6, "with --matrix: resolvers that are driven into failpoints at once")
	f.DurationVar(&t.Patience, "patience", 90*time.Second, "how long nothing may end after the last fault while operations are open")
	f.StringVar(&t.file, "json", "", "also write the report into this file")
	f.StringVar(&t.Dir, "dir", "", "where to keep files and logs (default: the system's place for temporary files)")
	f.BoolVar(&t.Keep, "keep", false, "keep files and logs although nothing failed")
	f.BoolVarP(&t.quiet, "quiet", "q", false, "do not tell each fault")
	f.BoolVar(&t.yes, "yes", false, "with a server of your own: yes, torture it")
}

// part is what a torture starts: this program as one role or server.
func part() *cobra.Command {
	return &cobra.Command{
		Use: "part", Hidden: true, DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error { return silently(torture.Part(args)) },
	}
}

func (a *app) listPoints() error {
	all := failpoint.All()
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return a.print(all, func(w io.Writer) {
		g := grid{header: []string{"FAILPOINT", "ROLE", "ACTIONS", "WHEN"}}
		for _, p := range all {
			g.add(p.Name, p.Role, fmt.Sprint(p.Actions()), p.When)
		}
		g.write(w)
	}, names...)
}

func (a *app) runTorture(cmd *cobra.Command, t *torment) error {
	if err := a.prepareTorture(cmd.Flags(), t); err != nil {
		return err
	}
	bar := newProgress(a.errs)
	t.Progress = func(p torture.Progress) { bar.show(p.Done, tortureLine(&p)) }
	t.Say = func(text string) {
		if !t.quiet {
			bar.end()
			fmt.Fprintln(a.errs, text)
		}
	}
	fmt.Fprintf(a.errs, "seed %d\n", t.Seed)
	do := torture.Run
	if t.matrix {
		do = torture.Matrix
	}
	r, err := do(cmd.Context(), t.Options)
	bar.end()
	if err != nil {
		return err
	}
	if t.file != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			err = os.WriteFile(t.file, append(text, '\n'), 0o600)
		}
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if err := a.print(r, func(w io.Writer) { showTorture(w, r) }, r.Failures...); err != nil {
		return err
	}
	if !r.OK() {
		return exitWith(daemon.ExitOther, "%s; seed %d", plural(len(r.Failures), "failure"), r.Seed)
	}
	return nil
}

// prepareTorture checks the options, before anything is started or written, and
// completes them.
func (a *app) prepareTorture(f *pflag.FlagSet, t *torment) error {
	if err := t.check(f.Changed); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("this program's own file: %w", err)
	}
	t.Self = []string{self, "torture", "part"}
	if !f.Changed("seed") {
		t.Seed = rand.Uint64N(1_000_000) //nolint:gosec // not a secret
	}
	if !a.conn.Given() {
		return nil
	}
	if t.matrix {
		return usagef("--matrix is for a system of its own: leave the server out")
	}
	fmt.Fprintln(a.errs, "THIS TORTURES A SYSTEM OF YOURS: resolvers, executors and submitters will join it and be killed, and leaders\n"+
		"will be asked to step down. Whoever uses it will see pauses of seconds. What the torture submits stays there.")
	if !t.yes {
		return daemon.Exit(daemon.ExitUsage, errors.New("say --yes if that is what you want"))
	}
	t.Server, t.Connect, t.Flags = true, a.conn.Connect, a.connFlags()
	return nil
}

// matrixFlags are those that say nothing to a torture at random.
var matrixFlags = []string{"points", "actions", "repeat", "lanes"}

// check refuses what makes no sense and reads the flags of the matrix. given tells
// which flags were used.
func (t *torment) check(given func(flag string) bool) error {
	if t.Nodes != 1 && t.Nodes != 3 {
		return usagef("--nodes %d: there are runs on 1 and on 3 servers", t.Nodes)
	}
	for _, name := range matrixFlags {
		if given(name) && !t.matrix {
			return usagef("--%s is for --matrix", name)
		}
	}
	for _, name := range t.actions {
		a := failpoint.Action(name)
		if !slices.Contains(pointActions, a) {
			return usagef("--actions %s: there are kill, stop, panic and error", name)
		}
		t.Actions = append(t.Actions, a)
	}
	if given("actions") && len(t.Actions) == 0 {
		return usagef("--actions is empty: there are kill, stop, panic and error")
	}
	if t.points == "" {
		return nil
	}
	points, err := regexp.Compile(t.points)
	if err != nil {
		return usagef("--points: %w", err)
	}
	t.Points = points
	return t.matches()
}

// pointActions is what a failpoint may do.
var pointActions = []failpoint.Action{failpoint.Kill, failpoint.Stop, failpoint.Panic, failpoint.Error}

// matches refuses an expression that leaves the matrix without a cell.
func (t *torment) matches() error {
	named := false
	for _, p := range failpoint.All() {
		if !t.Points.MatchString(p.Name) {
			continue
		}
		named = true
		if len(t.Actions) == 0 || slices.ContainsFunc(p.Actions(), func(a failpoint.Action) bool { return slices.Contains(t.Actions, a) }) {
			return nil
		}
	}
	if named {
		return usagef("--points %s: none of these failpoints can %s; `hierarchy torture --list` says what each can", t.points, strings.Join(t.actions, ", "))
	}
	return usagef("--points %s: no failpoint has such a name; `hierarchy torture --list` lists them", t.points)
}

// connFlags are the flags by which another process connects as we do.
func (a *app) connFlags() []string {
	var flags []string
	for _, f := range []struct{ name, value string }{
		{"server", a.conn.Server},
		{"context", a.conn.Context},
		{"user", a.conn.User},
		{"creds", a.conn.Creds},
		{"nkey", a.conn.NKey},
		{"tlscert", a.conn.Cert},
		{"tlskey", a.conn.Key},
		{"tlsca", a.conn.CA},
		{"inbox-prefix", a.conn.InboxPrefix},
	} {
		if f.value != "" {
			flags = append(flags, "--"+f.name, f.value)
		}
	}
	return flags
}
