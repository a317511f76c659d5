package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
)

// cancelOptions are the flags of cancel.
type cancelOptions struct {
	target    string
	submitter string
	alone     bool
}

func (a *app) cancel() *cobra.Command {
	var o cancelOptions
	cmd := &cobra.Command{
		Use:   "cancel OP | cancel --target T | cancel --submitter S",
		Short: "Ask for the cancellation of an operation, of all on an entity, or of a submitter's",
		Long: `Returns once the request is durable; what became of it is told by the records
(` + "`hierarchy wait OP`" + `). Pending operations end at once. One that executes ends when
its grace is over, and its executor is told to stop. Pending descendants are
cancelled with their ancestor unless --no-cascade is given.`,
		Example: `  hierarchy cancel 01a1ff7c-3943-7969-a04b-e04374343509
  hierarchy cancel 01a1ff7c-3943-7969-a04b-e04374343509 --no-cascade
  hierarchy cancel --target user-42          # whatever is open on it
  hierarchy cancel --submitter nightly       # wherever it is`,
		Args: func(_ *cobra.Command, args []string) error {
			ways := len(args)
			for _, given := range []string{o.target, o.submitter} {
				if given != "" {
					ways++
				}
			}
			if ways != 1 {
				return usagef("cancel takes one of an operation, --target and --submitter; see `hierarchy cancel --help`")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.runCancel(ctx, b, &o, args) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.target, "target", "", "cancel every open operation on this entity")
	f.StringVar(&o.submitter, "submitter", "", "cancel every open operation of this submitter")
	f.BoolVar(&o.alone, "no-cascade", false, "spare pending descendants")
	return cmd
}

func (a *app) runCancel(ctx context.Context, b *bus.Bus, o *cancelOptions, args []string) error {
	c := submitter.Cancellation{All: o.target != "", Target: o.target, Submitter: o.submitter}
	name := o.target + o.submitter
	if o.alone {
		cascade := false
		c.Cascade = &cascade
	}
	if len(args) > 0 {
		r, err := observer.Status(ctx, b, args[0])
		if err != nil {
			return err
		}
		if r.Status.Terminal() {
			return exitWith(daemon.ExitOther, "the operation is %s already", r.Status)
		}
		c.OpID, c.Target, name = r.OpID, r.Target, r.OpID
	}
	acc, err := submitter.New(submitter.Config{Bus: b}).CancelAll(ctx, c)
	if err != nil {
		return err
	}
	return a.print(acc, func(w io.Writer) { fmt.Fprintln(w, name) }, name)
}
