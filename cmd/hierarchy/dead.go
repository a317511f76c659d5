package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func (a *app) dead() *cobra.Command {
	var types, targets []string
	cmd := &cobra.Command{
		Use:   "dead [OP]",
		Short: "List the dead letters: operations that were given up, with their last error",
		Long: `An operation is given up when no retry is left, or when its handler says that none
can help. ` + "`hierarchy retry`" + ` submits it again, which takes it off this list.`,
		Example: `  hierarchy dead
  hierarchy dead --type resize_image
  hierarchy dead 01a1ff7c-3943-7969-a04b-e04374343509 -o json    # with its params
  hierarchy dead --type resize_image -o name | xargs -n 1 hierarchy retry`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				if len(args) > 0 {
					return a.showLetter(ctx, b, args[0])
				}
				letters, err := readLetters(ctx, b, types, targets)
				if err != nil {
					return err
				}
				return a.tellLetters(letters)
			})
		},
	}
	cmd.Flags().StringSliceVar(&types, "type", nil, "only operations of this type; may be repeated")
	cmd.Flags().StringSliceVar(&targets, "target", nil, "only operations on this entity; may be repeated")
	return cmd
}

// readLetters returns the dead letters, the latest last.
func readLetters(ctx context.Context, b *bus.Bus, types, targets []string) ([]op.Dead, error) {
	letters := []op.Dead{}
	for kv, err := range b.DeadLetters(ctx) {
		if err != nil {
			return nil, err
		}
		var d op.Dead
		if err := json.Unmarshal(kv.Value, &d); err != nil {
			return nil, fmt.Errorf("the dead letter of %s: %w", kv.Key, err)
		}
		if len(types) > 0 && !slices.Contains(types, d.Record.OpType) || len(targets) > 0 && !slices.Contains(targets, d.Record.Target) {
			continue
		}
		letters = append(letters, d)
	}
	slices.SortStableFunc(letters, func(x, y op.Dead) int {
		return cmp.Or(x.Record.UpdatedAt.Compare(y.Record.UpdatedAt), cmp.Compare(x.Record.OpID, y.Record.OpID))
	})
	return letters, ctx.Err()
}

func (a *app) tellLetters(letters []op.Dead) error {
	if a.output == asLines {
		for i := range letters {
			if err := writeJSON(a.out, &letters[i], ""); err != nil {
				return err
			}
		}
		return nil
	}
	var ids []string
	for i := range letters {
		ids = append(ids, letters[i].Record.OpID)
	}
	return a.print(letters, func(w io.Writer) {
		if len(letters) == 0 {
			fmt.Fprintln(w, "there are no dead letters")
			return
		}
		g := grid{header: []string{"OPERATION", "TYPE", "TARGET", "REASON", "ATTEMPTS", "SINCE", "LAST ERROR"}, right: []int{4}}
		for i := range letters {
			r := &letters[i].Record
			g.add(r.OpID, r.OpType, r.Target, string(r.Reason), number(r.Attempt), r.UpdatedAt.Local().Format(timeLayout), lastError(r))
		}
		g.write(w)
	}, ids...)
}

// lastError is the error of a record, short enough for a table.
func lastError(r *op.Record) string {
	if r.Error == nil {
		return ""
	}
	const most = 60
	if text := []rune(r.Error.Message); len(text) > most {
		return string(text[:most]) + "…"
	}
	return r.Error.Message
}

func (a *app) showLetter(ctx context.Context, b *bus.Bus, id string) error {
	if !op.Token(id) {
		return op.Errorf(op.CodeBadID, "op_id", "%.80q is not the id of an operation", id)
	}
	data, found, err := b.DeadLetter(ctx, id)
	if err != nil {
		return err
	}
	if !found {
		return op.Errorf(op.CodeNotFound, "op_id", "there is no dead letter of %s", id)
	}
	var d op.Dead
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("the dead letter of %s: %w", id, err)
	}
	return a.print(d, func(w io.Writer) {
		showRecord(w, &d.Record)
		if len(d.Operation.Params) > 0 {
			fmt.Fprintf(w, "\nparams %s\n", d.Operation.Params)
		}
		fmt.Fprintf(w, "\nNext  hierarchy retry %s     hierarchy explain %s\n", id, id)
	}, id)
}

func (a *app) retry() *cobra.Command {
	wait := false
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "retry OP",
		Short: "Submit an operation again that was given up, as a new one",
		Long: `Takes the operation from the dead letters and submits it as it was, under an id that
follows from its own: retrying it twice is retrying it once. The new operation
says so in retry_of, and its acceptance takes the dead letter away.

` + exitHelp,
		Example: `  hierarchy retry 01a1ff7c-3943-7969-a04b-e04374343509 --wait
  hierarchy dead -o name | xargs -n 1 hierarchy retry`,
		Args: exactly(1, "the id of an operation that was given up"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.runRetry(ctx, b, args[0], wait, timeout) })
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the end of the new operation")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait; 0: for ever")
	return cmd
}

func (a *app) runRetry(ctx context.Context, b *bus.Bus, id string, wait bool, timeout time.Duration) error {
	if !op.Token(id) {
		return op.Errorf(op.CodeBadID, "op_id", "%.80q is not the id of an operation", id)
	}
	var watch *await.Watch
	if wait {
		watch = await.Start(ctx, b)
		defer watch.Stop()
	}
	soon, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	again, err := submitter.New(submitter.Config{Bus: b}).Retry(soon, id, "")
	if err != nil {
		return err
	}
	next := again.OpIDs[0]
	if !wait {
		return a.print(again, func(w io.Writer) { fmt.Fprintln(w, next) }, next)
	}
	return a.follow(ctx, b, watch, next, timeout)
}

// follow waits for the end of one operation and tells it; the exit code says
// which it was.
func (a *app) follow(ctx context.Context, b *bus.Bus, watch *await.Watch, id string, timeout time.Duration) error {
	watch.Expect(id)
	if err := waitFor(ctx, watch, timeout); err != nil {
		fmt.Fprintln(a.out, id)
		return err
	}
	r, err := observer.Status(ctx, b, id)
	if err != nil {
		return err
	}
	if err := a.print(r, func(w io.Writer) { showEnd(w, &r) }, id); err != nil {
		return err
	}
	return silently(exitOf(r.Status, r.Reason))
}
