package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

// Exit codes of verify beside those of every command. A script must be able to
// tell a system that breaks its promises from a check that could not be made.
const (
	exitViolated  = 10 // something is wrong
	exitUnchecked = 11 // nothing is wrong with what was checked, and not everything could be
)

const verifyExits = `Exit codes beside those of every command (8: NATS unreachable, 9: no permission):
  0   nothing is wrong
  10  an invariant is broken, or copies differ
  11  nothing wrong was found, and not everything could be checked`

func (a *app) verify() *cobra.Command {
	var o verify.Options
	var copies verify.ReplicaOptions
	var acks string
	replicas := false
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the whole history: every decision, every entity, every view",
		Long: `Reads the journal once, recomputes every step and every entity from the recorded
inputs, and compares the views, the events and what is left of the intake with the
result. It only reads, and can be run at any time.

--replicas reads every server's own copy of every stream instead and compares them
message by message: a flipped bit hides messages while every server calls itself
healthy. It names the server, the sequences, and the repair. Where no stream has two
copies there is nothing to compare, and the exit code is 11.

--acks compares what clients were told: a file of JSON lines such as
  {"op_id":"a","outcome":"acknowledged"}       or refused, or unknown
  {"op_id":"a","status":"REJECTED","reason":"lower_priority","winner":"b"}

` + verifyExits,
		Example: `  hierarchy verify
  hierarchy verify --quiescent       # nothing is being submitted: everything must have ended
  hierarchy verify --acks acks.jsonl # nothing that a client was told may be untrue
  hierarchy verify --replicas        # every copy on every server must be the same
  hierarchy verify -o json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !replicas && len(copies.Streams) > 0 {
				return usagef("--stream is for --replicas")
			}
			if replicas && (acks != "" || o.Quiescent) {
				return usagef("--replicas compares copies and nothing else; run verify without it for the rest")
			}
			if acks != "" {
				f, err := openInput("acks", acks)
				if err != nil {
					return err
				}
				defer f.Close() //nolint:errcheck // it was only read
				o.Acks = &ackFile{r: f}
			}
			copies.Patience = o.Patience
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				if replicas {
					return a.compare(ctx, b, copies)
				}
				return a.judge(ctx, b, o)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Quiescent, "quiescent", false, "demand that every operation has ended")
	f.DurationVar(&o.Patience, "patience", 0, "how long to wait for what is under way, or for a server that lags (default 15s)")
	f.StringVar(&acks, "acks", "", "file with what clients were told, as JSON lines")
	f.BoolVar(&replicas, "replicas", false, "compare the copies of all servers instead")
	f.StringArrayVar(&copies.Streams, "stream", nil, "with --replicas: only this stream; may be repeated")
	return cmd
}

func (a *app) judge(ctx context.Context, b *bus.Bus, o verify.Options) error {
	bar := newProgress(a.errs)
	o.Progress = func(read, last uint64) {
		if read%64 == 0 || read == last { // the bar is drawn each time
			bar.show(float64(read)/float64(last), fmt.Sprintf("message %d of %d", read, last))
		}
	}
	r, err := verify.Run(ctx, b, o)
	bar.end()
	if err != nil {
		return unchecked(err)
	}
	if f, given := o.Acks.(*ackFile); given && f.blank() {
		r.Unchecked = append(r.Unchecked, "what clients were told: the file of --acks has no lines")
	}
	var names []string
	for _, v := range r.Violations {
		names = append(names, v.Invariant)
	}
	if err := a.print(r, func(w io.Writer) { showVerify(w, r, o.Acks != nil) }, names...); err != nil {
		return err
	}
	switch {
	case !r.OK():
		return exitWith(exitViolated, "%d violations of the invariants", r.Total)
	case len(r.Unchecked) > 0:
		return exitWith(exitUnchecked, "not checked: %s", r.Unchecked[0])
	}
	return nil
}

// unchecked is an error that ended a check. What says more than that it could not
// be made keeps its exit code.
func unchecked(err error) error {
	var line *verify.AckError
	if errors.As(err, &line) {
		return daemon.Exit(daemon.ExitUsage, err)
	}
	switch daemon.ExitCode(err) {
	case daemon.ExitUsage, daemon.ExitUnreachable, daemon.ExitPermission, daemon.ExitInterrupted:
		return err
	}
	return daemon.Exit(exitUnchecked, fmt.Errorf("could not be checked: %w", err))
}

// ackFile is the file of --acks. It knows whether anything stood in it: a check of
// nothing must not look like one that found nothing.
type ackFile struct {
	r           io.Reader
	told, ended bool
}

// Read implements io.Reader.
func (f *ackFile) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.told = f.told || len(bytes.TrimSpace(p[:n])) > 0
	f.ended = f.ended || errors.Is(err, io.EOF)
	return n, err
}

// blank reports whether the file was read to its end without a line that says
// anything.
func (f *ackFile) blank() bool { return f.ended && !f.told }

// showVerify prints every invariant with a tick. acks says whether --acks was given.
func showVerify(w io.Writer, r *verify.Result, acks bool) {
	fmt.Fprintf(w, "journal %d to %d: %d steps, %d operations = %d succeeded + %d rejected + %d cancelled + %d open\n",
		r.From, r.To, r.Steps, r.Operations, r.Succeeded, r.Rejected, r.Cancelled, r.Open)
	fmt.Fprintf(w, "%d decisions, %d attempts, %d effects on %d entities; %d heads and %d records compared\n",
		r.Decisions, r.Attempts, r.Effects, r.Entities, r.Heads, r.Records)
	fmt.Fprintf(w, "%d events and %d messages of the intake compared", r.Events, r.Intake)
	if r.Acks > 0 {
		fmt.Fprintf(w, "; %d lines of what clients were told", r.Acks)
	}
	fmt.Fprintln(w)
	for _, why := range r.Unchecked {
		fmt.Fprintf(w, "not checked: %s\n", why)
	}
	for _, g := range groups() {
		if !checked(g, r) {
			why := "--acks brings what they were told"
			if acks {
				why = "the reason stands above"
			}
			fmt.Fprintf(w, "\n%s: not checked; %s\n", g, why)
			continue
		}
		fmt.Fprintf(w, "\n%s: %s\n", g, groupTexts[g])
		for _, inv := range audit.Invariants() {
			if groupOf(inv) != g {
				continue
			}
			n := r.ByInvariant[inv.Name]
			line := fmt.Sprintf("%s %-28s %s", tick(n == 0), inv.Name, inv.Text)
			if n > 0 {
				line += fmt.Sprintf("  [%s]", plural(n, "violation"))
			}
			fmt.Fprintln(w, line)
		}
	}
	if !r.OK() {
		fmt.Fprintln(w)
		showViolations(w, r)
	}
}
