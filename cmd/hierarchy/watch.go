package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// watchOptions are the flags of watch.
type watchOptions struct {
	events  []string
	targets []string
	reasons []string
	where   []string
	since   string
	count   int

	conditions where  // of where
	fromSeq    uint64 // of since: the first journal sequence wanted
}

func (a *app) watch() *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Follow the public events, until Ctrl-C",
		Long: `Tells what happens from now on, or from --since on. --event, --target and --reason
select by their values; repeated, any of them will do. --where asks for any other
member of an event, as docs/protocol.md shows them: key=value or key!=value, with
dots into objects (error.code). Repeated, all of them have to hold.`,
		Example: `  hierarchy watch
  hierarchy watch --event 'operation.*' --target user-42
  hierarchy watch --event operation.rejected --reason lower_priority --since 10m
  hierarchy watch --where submitter=nightly --where priority!=LOW
  hierarchy watch -o jsonl --since 2026-11-21T00:00:00Z
  hierarchy watch --since 1042                        # from journal entry 1042 on`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := o.query(time.Now())
			if err != nil {
				return err
			}
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.runWatch(ctx, b, q, &o) })
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.events, "event", nil, "name or pattern such as operation.rejected, operation.* or entity.*; may be repeated")
	f.StringSliceVar(&o.targets, "target", nil, "only events about this entity; may be repeated")
	f.StringSliceVar(&o.reasons, "reason", nil, "only events with this reason; may be repeated")
	f.StringArrayVar(&o.where, "where", nil, "only events with key=value, or without: key!=value; may be repeated")
	f.StringVar(&o.since, "since", "", "begin at an RFC 3339 instant, so long ago (10m), or at a journal entry (1042); default: now")
	f.IntVar(&o.count, "count", 0, "end after so many events; 0: never")
	return cmd
}

// query turns the flags into what the server is asked for.
func (o *watchOptions) query(now time.Time) (bus.EventQuery, error) {
	q := bus.EventQuery{New: o.since == ""}
	var err error
	if o.conditions, err = parseWhere(o.where); err != nil {
		return q, err
	}
	if seq, err := strconv.ParseUint(o.since, 10, 64); err == nil && seq > 0 {
		o.fromSeq = seq
	} else if !q.New {
		if q.Since, err = instant(o.since, now); err != nil {
			return q, err
		}
	}
	for _, r := range o.reasons {
		if op.Reason(r).Code() == "" {
			return q, usagef("there is no reason %q; `hierarchy errors` lists them", r)
		}
	}
	for _, t := range o.targets {
		if !op.Token(t) {
			return q, usagef("--target %q is not the id of an entity", t)
		}
	}
	events := o.events
	if len(events) == 0 {
		events = []string{"*"}
	}
	targets := o.targets
	if len(targets) == 0 {
		targets = []string{""}
	}
	for _, e := range events {
		if e != "*" && strings.Count(e, ".") != 1 || strings.ContainsAny(e, " >") {
			return q, usagef("--event %q is neither a name such as operation.rejected nor a pattern such as operation.*", e)
		}
		for _, t := range targets {
			q.Subjects = append(q.Subjects, bus.EventFilter(e, t))
		}
	}
	return q, nil
}

// instant reads an RFC 3339 time or a duration before now.
func instant(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usagef("%q is neither an RFC 3339 instant, nor a duration such as 10m, nor a journal sequence", s)
	}
	return t, nil
}

// clockMargin is how far the clocks of two servers of a cluster may differ
// without an event being missed: one may lead the journal, another the events.
const clockMargin = time.Minute

// locate finds the place in the feed of the events of a journal entry. They are
// stored after it; where it is gone the feed begins with the oldest event kept.
func (o *watchOptions) locate(ctx context.Context, b *bus.Bus, q *bus.EventQuery) error {
	if o.fromSeq == 0 {
		return nil
	}
	e, err := b.JournalGet(ctx, o.fromSeq)
	switch {
	case err == nil:
		q.Since = e.Time.Add(-clockMargin)
	case !errors.Is(err, bus.ErrNotFound):
		return err
	}
	return nil
}

func (a *app) runWatch(ctx context.Context, b *bus.Bus, q bus.EventQuery, o *watchOptions) error {
	if err := o.locate(ctx, b, &q); err != nil {
		return err
	}
	n := 0
	for m, err := range b.Events(ctx, q) {
		if err != nil {
			return err
		}
		var e op.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			fmt.Fprintf(a.errs, "hierarchy: event %d cannot be read: %v\n", m.Seq, err)
			continue
		}
		if e.Seq < o.fromSeq || len(o.reasons) > 0 && !slices.Contains(o.reasons, string(e.Reason)) || !o.conditions.match(m.Data) {
			continue
		}
		if err := a.tellEvent(&e, m.Data); err != nil {
			return err
		}
		if n++; n == o.count {
			return nil
		}
	}
	return ctx.Err()
}

// tellEvent writes one event: as it was stored, or as a line.
func (a *app) tellEvent(e *op.Event, data []byte) error {
	switch a.output {
	case asJSON:
		return writeJSON(a.out, json.RawMessage(data), "  ")
	case asLines:
		_, err := fmt.Fprintf(a.out, "%s\n", data)
		return err
	case asName:
		_, err := fmt.Fprintln(a.out, e.OpID)
		return err
	}
	_, err := fmt.Fprintln(a.out, eventLine(e))
	return err
}

// eventLine tells an event in one line, the same columns first.
func eventLine(e *op.Event) string {
	parts := []string{e.At.Local().Format("15:04:05.000"), fmt.Sprintf("%-20s", e.Name)}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if e.Target != "" {
		add("%s", e.Target)
	}
	if e.OpID != "" {
		add("%s", e.OpID)
	}
	if e.OpType != "" {
		add("%s", e.OpType)
	}
	if e.Effective != 0 {
		add("%s", priority(e.Effective))
	}
	if e.Reason != "" {
		add("%s", e.Reason)
	}
	if e.Winner != "" && e.Winner != e.OpID {
		add("winner %s", e.Winner)
	}
	if e.Name == op.EventConflict {
		add("%d contenders", max(e.Total, len(e.Contenders)))
	}
	if e.Version != 0 || e.Revision != 0 {
		add("v%d r%d", e.Version, e.Revision)
	}
	if e.Error != nil {
		add("%s", e.Error.Message)
	}
	if e.Detail != nil {
		add("%s %s", e.Detail.Code, e.Detail.Message)
	}
	return strings.Join(parts, "  ")
}
