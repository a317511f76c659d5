package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// waitOptions are the flags of wait.
type waitOptions struct {
	quiet   bool
	roles   []string
	timeout time.Duration
}

func (a *app) wait() *cobra.Command {
	o := waitOptions{roles: []string{"submitter", "resolver", "executor", "observer"}}
	cmd := &cobra.Command{
		Use:   "wait [OP…]",
		Short: "Wait until the system is ready, until operations have ended, or until all is quiet",
		Long: `Without an operation it waits until the server is there and set up, and every role
has an instance that is ready. With operations it waits for their ends, and the
exit code is that of the worst one, as for submit --wait. With --quiet it waits
until nothing is pending, executing or unread; that needs an observer.

` + exitHelp,
		Example: `  hierarchy wait --timeout 60s                 # in a script, before the first submission
  hierarchy wait --roles resolver,executor
  hierarchy wait 01a1ff7c-3943-7969-a04b-e04374343509
  hierarchy wait --quiet --timeout 5m          # before a backup`,
		RunE: func(cmd *cobra.Command, ops []string) error {
			if o.quiet && len(ops) > 0 {
				return usagef("with --quiet all operations count; name none")
			}
			for _, id := range ops {
				if !op.Token(id) {
					return op.Errorf(op.CodeBadID, "op_id", "%.80q is not the id of an operation", id)
				}
			}
			ctx := cmd.Context()
			if o.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, o.timeout)
				defer cancel()
			}
			switch {
			case len(ops) > 0:
				return a.withBus(ctx, func(ctx context.Context, b *bus.Bus) error { return a.waitEnds(ctx, b, ops) })
			case o.quiet:
				return a.waitUntil(ctx, "quiet", loud)
			}
			return a.waitUntil(ctx, "ready", func(ctx context.Context, b *bus.Bus) (string, error) { return unready(ctx, b, o.roles) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.quiet, "quiet", false, "wait until no operation is open and no submission unread")
	f.StringSliceVar(&o.roles, "roles", o.roles, "roles that have to be ready")
	f.DurationVar(&o.timeout, "timeout", 0, "how long to wait; 0: for ever")
	return cmd
}

// lookEvery is how often a wait without events looks, and lookPatience bounds
// one look.
const (
	lookEvery    = 200 * time.Millisecond
	lookPatience = 10 * time.Second
)

// waitUntil looks until there is no obstacle. What it waits for is told when it
// changes. It connects again after every error, since the server may be about to
// come up.
func (a *app) waitUntil(ctx context.Context, goal string, obstacle func(context.Context, *bus.Bus) (string, error)) error {
	began := time.Now()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	l := &lookout{a: a}
	defer l.close()
	told := ""
	for {
		why, err := l.look(ctx, obstacle)
		switch {
		case err == nil && why == "":
			v := map[string]any{"type": "ops.v1.wait", "state": goal, "seconds": time.Since(began).Seconds()}
			return a.print(v, func(w io.Writer) { fmt.Fprintf(w, "%s after %.1f s\n", goal, time.Since(began).Seconds()) }, goal)
		case err != nil && (daemon.ExitCode(err) == daemon.ExitPermission || daemon.ExitCode(err) == daemon.ExitUsage):
			return err
		case err != nil:
			why = err.Error()
		}
		if why != told && ctx.Err() == nil {
			told = why
			fmt.Fprintln(a.errs, "waiting:", why)
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return exitWith(daemon.ExitTimeout, "not %s in time: %s", goal, told)
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// lookout keeps a connection between two looks for as long as it works.
type lookout struct {
	a  *app
	nc *nats.Conn
	b  *bus.Bus
}

func (l *lookout) look(ctx context.Context, obstacle func(context.Context, *bus.Bus) (string, error)) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	if l.b == nil {
		if l.nc, err = l.a.connect(); err != nil {
			return "", err
		}
		l.b, err = bus.Open(ctx, l.nc)
	}
	if err == nil {
		why, err = obstacle(ctx, l.b)
	}
	if err != nil {
		l.close()
	}
	return why, err
}

func (l *lookout) close() {
	if l.nc != nil {
		l.nc.Close()
	}
	l.nc, l.b = nil, nil
}

// unready says what is missing before the system can be used, "" if nothing is.
func unready(ctx context.Context, b *bus.Bus, roles []string) (string, error) {
	missing := make([]string, len(roles))
	g, ctx := errgroup.WithContext(ctx)
	for i, role := range roles {
		g.Go(func() error {
			h, err := askRole(ctx, b.Conn(), role, time.Second)
			if err == nil && h.Ready == 0 {
				missing[i] = role + ": " + h.word()
			}
			return err
		})
	}
	err := g.Wait()
	return strings.Join(slices.DeleteFunc(missing, func(s string) bool { return s == "" }), ", "), err
}

// loud says what is still going on, "" if nothing is. The order matters: a step
// whose outputs are told has its follow-ups in the intake, and an intake that is
// read up to its end by that step has nothing more to bring.
func loud(ctx context.Context, b *bus.Bus) (why string, err error) {
	var s observer.Stats
	if err := askObserver(ctx, b, "stats", &s); err != nil {
		return "", err
	}
	if n := s.Open(); n > 0 {
		return plural(int(n), "operation") + " open", nil
	}
	cursors := make([]uint64, b.Layout().Partitions)
	for _, p := range s.Partitions {
		cursors[p.Partition] = p.Cursor
		mark, err := b.Mark(ctx, p.Partition)
		if err != nil {
			return "", err
		}
		if mark < p.Step {
			return fmt.Sprintf("partition %d is telling what it decided", p.Partition), nil
		}
	}
	for n, cursor := range cursors {
		last, err := b.LastIntake(ctx, n)
		if err != nil {
			return "", err
		}
		if last > cursor {
			return fmt.Sprintf("partition %d has submissions to read", n), nil
		}
	}
	return "", nil
}

// askObserver sends a question of the API without an argument to an observer and
// reads the answer.
func askObserver(ctx context.Context, b *bus.Bus, verb string, v any) error {
	m, err := b.Conn().RequestWithContext(ctx, bus.APISubject(verb), nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return exitWith(daemon.ExitOther, "no observer answers; start one, or `hierarchy dev`, which has one")
	}
	if err != nil {
		return err
	}
	return readAnswer(m, v)
}

// readAnswer reads the body of an answer, which may be a mistake of the request.
func readAnswer(m *nats.Msg, v any) error {
	if m.Header.Get(micro.ErrorCodeHeader) != "" {
		e := new(op.Error)
		if err := json.Unmarshal(m.Data, e); err != nil || e.Code == "" {
			return errors.New(m.Header.Get(micro.ErrorHeader))
		}
		return e
	}
	if err := json.Unmarshal(m.Data, v); err != nil {
		return fmt.Errorf("the answer to %s cannot be read: %w", m.Subject, err)
	}
	return nil
}

// appears is how long an operation may be unknown before it is taken for one
// that was never submitted.
const appears = 5 * time.Second

func (a *app) waitEnds(ctx context.Context, b *bus.Bus, ids []string) error {
	w := await.Start(ctx, b)
	defer w.Stop()
	if err := known(ctx, b, ids); err != nil {
		return err
	}
	w.Expect(ids...)
	if err := w.Wait(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return exitWith(daemon.ExitTimeout, "still open: %s", strings.Join(w.Open(), ", "))
		}
		return err
	}
	records := make([]op.Record, len(ids))
	codes := map[int]bool{}
	for i, id := range ids {
		r, err := observer.Status(ctx, b, id)
		if err != nil {
			return err
		}
		records[i] = r
		codes[exitOf(r.Status, r.Reason)] = true
	}
	err := a.print(records, func(w io.Writer) {
		for i := range records {
			showEnd(w, &records[i])
		}
	}, ids...)
	if err != nil {
		return err
	}
	return silently(worst(codes))
}

// known waits until every operation has a record, for a moment: its submission
// may be on its way.
func known(ctx context.Context, b *bus.Bus, ids []string) error {
	until := time.Now().Add(appears)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for _, id := range ids {
		for {
			_, err := observer.Status(ctx, b, id)
			if err == nil {
				break
			}
			if e := op.AsError(err); e == nil || e.Code != op.CodeNotFound || time.Now().After(until) {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return err
			}
		}
	}
	return nil
}
