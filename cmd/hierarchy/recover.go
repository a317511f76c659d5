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
	"github.com/hierarchy-bus/hierarchy/internal/doctor"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
)

func (a *app) recover() *cobra.Command {
	bound := 15 * time.Second
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "List what executes and its leases, and say whether anything is stuck",
		Long: `There is nothing to reset by hand: the resolver that owns a partition takes back
every attempt whose lease is over, and whoever takes the partition over does so
in its place. This command looks whether they do. An attempt is overdue from the
end of its lease, and stuck when nobody has taken it back for --bound longer: then
the exit code is 1, and ` + "`hierarchy doctor`" + ` says what is missing.`,
		Example: `  hierarchy recover
  hierarchy recover --bound 1m -o json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if bound < 0 {
				return usagef("--bound must not be negative")
			}
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.runRecover(ctx, b, bound) })
		},
	}
	cmd.Flags().DurationVar(&bound, "bound", bound, "how long after a lease somebody must have taken the attempt back")
	return cmd
}

func (a *app) runRecover(ctx context.Context, b *bus.Bus, bound time.Duration) error {
	x, err := executing(ctx, b)
	if err != nil {
		return err
	}
	resolvers, err := doctor.Leases(ctx, b)
	if err != nil {
		return err
	}
	// Leases end by the clocks of the resolvers, which are closer to the server's
	// than ours may be.
	s, err := b.JetStream().Stream(ctx, bus.StreamJournal)
	if err != nil {
		return err
	}
	r := observer.Recover(x, resolvers, s.CachedInfo().TimeStamp, bound)
	var ids []string
	for i := range r.Attempts {
		ids = append(ids, r.Attempts[i].OpID)
	}
	if err := a.print(r, func(w io.Writer) { showRecovery(w, r) }, ids...); err != nil {
		return err
	}
	if r.Stuck > 0 {
		return silently(daemon.ExitOther)
	}
	return nil
}

// executing asks an observer what executes, or reads the journal where none is.
func executing(ctx context.Context, b *bus.Bus) (observer.Executing, error) {
	soon, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m, err := b.Conn().RequestWithContext(soon, bus.APISubject("executing"), nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return observer.ReadExecuting(ctx, b)
	}
	var x observer.Executing
	if err == nil {
		err = readAnswer(m, &x)
	}
	return x, err
}

func showRecovery(w io.Writer, r *observer.Recovery) {
	switch n := len(r.Resolvers); n {
	case 0:
		fmt.Fprintln(w, "no resolver is alive: nothing is taken back until one is started")
	default:
		fmt.Fprintf(w, "%s alive, which %s back what their executors do not finish\n", plural(n, "resolver"), map[bool]string{true: "takes", false: "take"}[n == 1])
	}
	if len(r.Attempts) == 0 {
		fmt.Fprintln(w, "nothing executes")
		return
	}
	g := grid{header: []string{"OPERATION", "TYPE", "TARGET", "ATTEMPT", "SINCE", "LEASE", "LAST SIGN", "OWNER", "STATE"}, right: []int{3}}
	for i := range r.Attempts {
		t := &r.Attempts[i]
		sign := ""
		if t.BeatenAt != nil {
			sign = age(r.At.Sub(*t.BeatenAt).Seconds()) + " ago"
		}
		lease := age(t.Left) + " left"
		if t.Left <= 0 {
			lease = "over for " + age(-t.Left)
		}
		g.add(t.OpID, t.OpType, t.Target, number(t.Attempt.Attempt), age(r.At.Sub(t.GrantedAt).Seconds()), lease, sign, t.Owner, string(t.State))
	}
	g.write(w)
	if r.Stuck > 0 {
		fmt.Fprintf(w, "%s stuck: the lease is over for more than %s and nobody has taken it back; `hierarchy doctor` says what is missing\n",
			plural(r.Stuck, "attempt"), time.Duration(r.Bound*float64(time.Second)))
	}
}
