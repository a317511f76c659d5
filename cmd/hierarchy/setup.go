package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
)

func (a *app) setup() *cobra.Command {
	want := bus.DefaultLayout()
	var patience time.Duration
	var diff bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Create the streams and buckets on a server, or say how it differs",
		Long: `Creates what is missing and updates what may be updated; running it again changes
nothing. What cannot be changed without losing data or meaning, such as the
number of partitions, is refused and named.`,
		Example: `  hierarchy setup
  hierarchy setup --replicas 3 --wait 60s
  hierarchy setup --diff`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asked := setupOf{want, cmd.Flags().Changed}
			if err := want.Check(); err != nil {
				return usagef("%v", err)
			}
			ctx := cmd.Context()
			if patience > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, patience)
				defer cancel()
			}
			return a.runSetup(ctx, asked, patience > 0, diff)
		},
	}
	f := cmd.Flags()
	f.IntVar(&want.Replicas, "replicas", want.Replicas, "copies of every stream: 1, 3 or 5")
	f.IntVar(&want.Partitions, "partitions", want.Partitions, "number of partitions; fixed for ever")
	f.Int64Var(&want.MaxIntakeBytes, "max-intake-bytes", want.MaxIntakeBytes, "submissions beyond this many undecided bytes are refused")
	f.Int64Var(&want.MaxIntakeMsgs, "max-intake-msgs", want.MaxIntakeMsgs, "submissions beyond this many undecided messages are refused")
	f.DurationVar(&want.EventsMaxAge, "events-max-age", want.EventsMaxAge, "how long events are kept; 0: for ever")
	f.DurationVar(&want.RecordsMaxAge, "records-max-age", want.RecordsMaxAge, "how long status records are kept; 0: for ever")
	f.DurationVar(&patience, "wait", 0, "keep trying for so long, while the servers come up")
	f.BoolVar(&diff, "diff", false, "only say what would be done; exits with 1 if that is anything")
	return cmd
}

// retryPause is how long setup waits between two attempts.
const retryPause = 500 * time.Millisecond

func (a *app) runSetup(ctx context.Context, want setupOf, patient, diff bool) error {
	tick := time.NewTicker(retryPause)
	defer tick.Stop()
	told := ""
	for {
		changes, err := a.trySetup(ctx, want, diff)
		var drift *bus.DriftError
		switch {
		case err == nil:
			return a.told(changes, diff)
		case errors.As(err, &drift):
			a.showChanges(a.errs, changes)
			return err
		case !patient || errors.Is(err, nats.ErrAuthorization):
			return err
		}
		if text := err.Error(); text != told {
			told = text
			fmt.Fprintln(a.errs, "waiting:", text)
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// alone says in words what a server cannot do that is in no cluster.
func alone(err error) error {
	if !errors.Is(err, bus.ErrNoCluster) {
		return err
	}
	return withHint(exitWith(daemon.ExitOther, "this server is in no cluster, so it keeps only one copy of each stream"),
		"join three servers or more into a cluster first, or leave --replicas out")
}

// setupOf is what the flags ask for, and which of them were given.
type setupOf struct {
	layout bus.Layout
	given  func(flag string) bool
}

// over lays the given flags over the layout that is there, so that running setup
// again without them changes nothing.
func (s setupOf) over(there bus.Layout) bus.Layout {
	if s.given("replicas") {
		there.Replicas = s.layout.Replicas
	}
	if s.given("partitions") {
		there.Partitions = s.layout.Partitions
	}
	if s.given("max-intake-bytes") {
		there.MaxIntakeBytes = s.layout.MaxIntakeBytes
	}
	if s.given("max-intake-msgs") {
		there.MaxIntakeMsgs = s.layout.MaxIntakeMsgs
	}
	if s.given("events-max-age") {
		there.EventsMaxAge = s.layout.EventsMaxAge
	}
	if s.given("records-max-age") {
		there.RecordsMaxAge = s.layout.RecordsMaxAge
	}
	return there
}

func (a *app) trySetup(ctx context.Context, asked setupOf, diff bool) ([]bus.Change, error) {
	nc, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	// A cluster without a leader answers nothing: one attempt must not use up
	// all the patience.
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	want := asked.layout
	switch b, err := bus.Open(ctx, nc); {
	case err == nil:
		want = asked.over(b.Layout())
	case !errors.Is(err, bus.ErrNotSetUp):
		return nil, err
	}
	if diff {
		return bus.Diff(ctx, nc, want)
	}
	changes, err := bus.Setup(ctx, nc, want)
	return changes, alone(err)
}

func (a *app) told(changes []bus.Change, diff bool) error {
	pending := 0
	var names []string
	for _, c := range changes {
		if c.Action != bus.ActionUnchanged {
			pending++
			names = append(names, c.Object)
		}
	}
	if err := a.print(changes, func(w io.Writer) { a.showChanges(w, changes) }, names...); err != nil {
		return err
	}
	if diff && pending > 0 {
		return silently(daemon.ExitOther)
	}
	return nil
}

func (a *app) showChanges(w io.Writer, changes []bus.Change) {
	g := grid{header: []string{"OBJECT", "ACTION", "DETAIL"}}
	for _, c := range changes {
		g.add(c.Object, c.Action, c.Detail)
	}
	g.write(w)
}
