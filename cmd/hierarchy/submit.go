package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// submitOptions are the flags of submit.
type submitOptions struct {
	file      string
	set       []string
	params    string
	priority  string
	parent    string
	source    string
	conflict  string
	id        string
	deadline  string
	submitter string
	retries   int
	expect    int64
	yields    bool
	wait      bool
	dryRun    bool
	timeout   time.Duration
	override  []string
	keepGoing bool
}

func (a *app) submit() *cobra.Command {
	var o submitOptions
	cmd := &cobra.Command{
		Use:   "submit TYPE TARGET | submit -f FILE",
		Short: "Submit one operation, or many from a file or stdin",
		Long: `Returns once the log has stored the submission, and prints its id. With --wait it
follows the operation to its end, and the exit code tells which: 0 succeeded,
4 lost arbitration, 5 executed and failed, 6 cancelled or expired. With --dry-run
nothing is submitted, and the exit code is 0 if it would win or wait, or 4.

A file holds one JSON object a line; - is stdin. With --wait the exit code is 0
only if every operation succeeded; otherwise it is that of the worst end, 5
before 6 before 4.

` + exitHelp,
		Example: `  hierarchy submit create_entity user-42 --set counter=0
  hierarchy submit modify_field user-42 --set counter=1 --priority high --wait
  hierarchy submit complex_update user-42 --params '{"increment":{"counter":1}}' --on-conflict queue
  hierarchy submit borrow_attribute user-42 --source user-7 --params '{"source_field":"email","target_field":"email"}'
  hierarchy submit modify_field user-42 --set counter=2 --dry-run
  hierarchy submit -f operations.ndjson --wait --override on_conflict=queue`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.file == "" && len(args) != 2:
				return usagef("submit takes a type and a target, or -f; see `hierarchy submit --help`")
			case o.file != "" && len(args) != 0:
				return usagef("with -f there is no type and no target: they stand in the file")
			case o.dryRun && (o.file != "" || o.wait):
				return usagef("--dry-run is for one operation, and there is nothing to wait for")
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return typeNames(), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.file != "" {
				return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.submitFile(ctx, b, &o) })
			}
			body, err := o.body(args[0], args[1], cmd.Flags().Changed)
			if err != nil {
				return err
			}
			if o.dryRun {
				return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.whatIf(ctx, b, body) })
			}
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.submitOne(ctx, b, body, &o) })
		},
	}
	o.flags(cmd)
	return cmd
}

func (o *submitOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", "NDJSON to submit; -: stdin")
	f.StringArrayVar(&o.set, "set", nil, "field=value; the value is JSON, or else text. May be repeated")
	f.StringVar(&o.params, "params", "", "params as a JSON object")
	f.StringVar(&o.priority, "priority", "", "1 to 10, or background, low, normal, high, critical")
	f.StringVar(&o.parent, "parent", "", "operation whose priority is inherited")
	f.StringVar(&o.source, "source", "", "entity to borrow from")
	f.StringVar(&o.conflict, "on-conflict", "", "what to become on losing: reject, queue, retry")
	f.StringVar(&o.id, "id", "", "id of the operation; the same id is the same submission")
	f.StringVar(&o.deadline, "deadline", "", "RFC 3339 instant or duration after which it is not executed")
	f.StringVar(&o.submitter, "submitter", "", "who asks; data only")
	f.IntVar(&o.retries, "max-retries", 0, "how often a failed attempt is tried again")
	f.Int64Var(&o.expect, "expect-version", 0, "fail unless the target has this version")
	f.BoolVar(&o.yields, "preemptible", false, "may have to yield to a stronger operation while it executes, after its grace")
	f.BoolVar(&o.wait, "wait", false, "wait for the end")
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what would become of it, and against whom; submits nothing")
	f.DurationVar(&o.timeout, "timeout", 0, "how long to wait; 0: for ever")
	f.StringArrayVar(&o.override, "override", nil, "with -f: field=value for every operation, such as on_conflict=queue")
	f.BoolVar(&o.keepGoing, "keep-going", false, "with -f: report bad lines and go on")
}

// body writes the operation. given tells which flags were used.
func (o *submitOptions) body(kind, target string, given func(string) bool) ([]byte, error) {
	m := map[string]any{"op_type": kind, "target_entity_id": target}
	for flag, text := range map[string]struct{ field, value string }{
		"parent": {"parent_op_id", o.parent}, "source": {"source_entity_id", o.source}, "on-conflict": {"on_conflict", o.conflict},
		"id": {"op_id", o.id}, "deadline": {"deadline", o.deadline}, "submitter": {"submitter", o.submitter},
	} {
		if given(flag) {
			m[text.field] = text.value
		}
	}
	if given("priority") {
		p, err := op.ParsePriority(o.priority)
		if err != nil {
			return nil, err
		}
		m["priority"] = p
	}
	if given("max-retries") {
		m["max_retries"] = o.retries
	}
	if given("expect-version") {
		m["expected_version"] = o.expect
	}
	if o.yields {
		m["preemptible"] = true
	}
	params, err := o.paramsOf(kind)
	if err != nil {
		return nil, err
	}
	if params != nil {
		m["params"] = params
	}
	return op.Marshal(m)
}

// paramsOf joins --params and --set, which means what the type makes of it.
func (o *submitOptions) paramsOf(kind string) (map[string]any, error) {
	var params map[string]any
	if o.params != "" {
		d := json.NewDecoder(strings.NewReader(o.params))
		d.UseNumber()
		err := d.Decode(&params)
		if _, more := d.Token(); err != nil || !errors.Is(more, io.EOF) {
			return nil, op.Errorf(op.CodeBadParams, "params", "--params is not one JSON object: %.80s", o.params)
		}
	}
	if len(o.set) == 0 {
		return params, nil
	}
	fields := map[string]any{}
	last := ""
	for _, s := range o.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, usagef("--set %q is not field=value", s)
		}
		fields[name], last = valueOf(value), name
	}
	if params == nil {
		params = map[string]any{}
	}
	switch {
	case kind == op.TypeCreate:
		params["fields"] = fields
	case kind == op.TypeModifyField && len(fields) == 1:
		params["field_name"], params["new_value"] = last, fields[last]
	case kind == op.TypeModifyField:
		return nil, usagef("modify_field sets one field; complex_update sets several")
	case kind == op.TypeComplexUpdate:
		params["set"] = fields
	default: // of a type that we do not know, the params themselves
		maps.Copy(params, fields)
	}
	return params, nil
}

// valueOf reads JSON, or takes the text as it is.
func valueOf(s string) any {
	if json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	return s
}

func (a *app) submitOne(ctx context.Context, b *bus.Bus, body []byte, o *submitOptions) error {
	var watch *await.Watch
	if o.wait {
		watch = await.Start(ctx, b)
		defer watch.Stop()
	}
	soon, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	acc, err := submitter.New(submitter.Config{Bus: b}).Submit(soon, body, "")
	if err != nil {
		return err
	}
	id := acc.OpIDs[0]
	if !o.wait {
		return a.print(acc, func(w io.Writer) { fmt.Fprintln(w, id) }, id)
	}
	return a.follow(ctx, b, watch, id, o.timeout)
}

// waitFor waits for the end of everything that is expected, at most timeout.
func waitFor(ctx context.Context, w *await.Watch, timeout time.Duration) error {
	wait := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err := w.Wait(wait)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return exitWith(daemon.ExitTimeout, "%s still open after %s; the submission stands", plural(w.Counts().Open(), "operation"), timeout)
	}
	return err
}

// showEnd tells how one operation ended.
func showEnd(w io.Writer, r *op.Record) {
	switch r.Status {
	case op.Succeeded:
		fmt.Fprintf(w, "%s  SUCCEEDED  %s version %d revision %d\n", r.OpID, r.Target, r.Version, r.Revision)
		return
	case op.Rejected, op.Cancelled, op.Pending, op.Executing, op.Failed:
	}
	fmt.Fprintf(w, "%s  %s  %s %s", r.OpID, r.Status, r.Reason, r.Reason.Code())
	if r.Winner != "" {
		fmt.Fprintf(w, "  winner %s", r.Winner)
	}
	if r.Error != nil {
		fmt.Fprintf(w, "  %s", r.Error.Message)
	}
	fmt.Fprintln(w)
}
