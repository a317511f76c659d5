package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/replay"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// replayOptions are the flags of replay.
type replayOptions struct {
	policy   string
	since    string
	exitCode bool
}

// The policies that are not in a file.
const (
	policyCurrent = "current"
	policyOwn     = "own"
)

func (a *app) replay() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay --policy FILE",
		Short: "Say what would have been different under another policy",
		Long: `Makes every decision of the journal again under another policy, from the same
submissions at the same instants, and says which operations would have ended
differently, which decisions would have been others, and how long operations would
have waited. It only reads, and changes no policy.

The policy is a file as for ` + "`hierarchy config set --file`" + `, - for stdin, current for the
one on the server, or own for those under which it all happened, which changes
nothing. What executors did is taken from the record; what it does not have, is
assumed to have gone well.

-o jsonl prints the operations that would have ended differently, one a line, and
-o name their ids.`,
		Example: `  hierarchy replay --policy proposed.json
  hierarchy replay --policy proposed.json --since 24h     # in force since yesterday
  hierarchy replay --policy current -o json
  hierarchy replay --policy proposed.json --exit-code     # 1 if anything would have been different`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.policy == "" {
				return usagef("--policy is missing: a file, current or own; see `hierarchy replay --help`")
			}
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.runReplay(ctx, b, &o) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.policy, "policy", "", "the policy to try: a file, - for stdin, current or own")
	f.StringVar(&o.since, "since", "", "let it be in force from an RFC 3339 instant on, since so long ago (24h), or from a journal entry (1042) on; default: always")
	f.BoolVar(&o.exitCode, "exit-code", false, "end with 1 if anything would have been different")
	return cmd
}

func (a *app) runReplay(ctx context.Context, b *bus.Bus, o *replayOptions) error {
	policy, name, err := a.triedPolicy(ctx, b, o.policy)
	if err != nil {
		return err
	}
	since, err := replaySince(ctx, b, o.since)
	if err != nil {
		return err
	}
	r, err := a.replayJournal(ctx, b, policy, since)
	if err != nil {
		return err
	}
	if err := a.tellReplay(r, name); err != nil {
		return err
	}
	if o.exitCode && !r.Same() {
		return silently(daemon.ExitOther)
	}
	return nil
}

// triedPolicy returns what to make of a recorded policy, and how to call it.
func (a *app) triedPolicy(ctx context.Context, b *bus.Bus, which string) (policy func(arbiter.Policy) arbiter.Policy, name string, err error) {
	var data []byte
	var rev uint64
	switch which {
	case policyOwn:
		return func(recorded arbiter.Policy) arbiter.Policy { return recorded }, "the policies of that time", nil
	case policyCurrent:
		data, rev, err = b.Policy(ctx)
		name = fmt.Sprintf("revision %d of the policy", rev)
		if rev == 0 {
			name = "the built-in policy"
		}
	default:
		data, err = a.readFile("policy", which)
		name = "the policy of " + which
	}
	if err != nil {
		return nil, "", err
	}
	if err := checkPolicy(data, rev); err != nil {
		return nil, "", daemon.Exit(daemon.ExitUsage, err)
	}
	tried, err := arbiter.ParsePolicy(data, rev)
	tried = tried.For(b.Layout().Partitions)
	return func(arbiter.Policy) arbiter.Policy { return tried }, name, err
}

// replaySince is the instant from which on the policy is tried; zero: always.
func replaySince(ctx context.Context, b *bus.Bus, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return instant(text, time.Now())
	}
	e, err := b.JournalGet(ctx, seq)
	if errors.Is(err, bus.ErrNotFound) {
		return time.Time{}, exitWith(daemon.ExitNotFound, "the journal has no entry %d", seq)
	}
	if err != nil {
		return time.Time{}, err
	}
	s, err := journalStep(&e)
	return s.At, err
}

func journalStep(e *bus.Entry) (arbiter.Step, error) {
	var s arbiter.Step
	if err := json.Unmarshal(e.Data, &s); err != nil {
		return s, fmt.Errorf("journal entry %d cannot be read: %w", e.Seq, err)
	}
	if s.Schema != arbiter.StepSchema {
		return s, fmt.Errorf("journal entry %d has schema %q, this release knows %q", e.Seq, s.Schema, arbiter.StepSchema)
	}
	return s, nil
}

// replayJournal reads the journal once and replays each partition.
func (a *app) replayJournal(ctx context.Context, b *bus.Bus, policy func(arbiter.Policy) arbiter.Policy, since time.Time) (*replay.Report, error) {
	bar := newProgress(a.errs)
	defer bar.end()
	last, err := verify.End(ctx, b)
	if err != nil {
		return nil, err
	}
	partitions := make([]*replay.Replay, b.Layout().Partitions)
	directory := replay.NewDirectory()
	for p := range partitions {
		partitions[p] = replay.New(p, policy)
		partitions[p].Since(since)
		partitions[p].Share(directory)
	}
	for e, err := range b.JournalRead(ctx, -1, 0) {
		if err != nil {
			return nil, err
		}
		s, err := journalStep(&e)
		if err == nil && (s.Partition < 0 || s.Partition >= len(partitions)) {
			err = fmt.Errorf("there is no partition %d", s.Partition)
		}
		if err == nil {
			err = partitions[s.Partition].Step(&s)
		}
		if err != nil {
			return nil, fmt.Errorf("journal entry %d: %w; `hierarchy verify` checks the whole journal", e.Seq, err)
		}
		bar.show(float64(e.Seq)/float64(max(last, e.Seq)), fmt.Sprintf("entry %d of %d", e.Seq, last))
	}
	reports := make([]replay.Report, len(partitions))
	for p, r := range partitions {
		bar.show(float64(p)/float64(len(partitions)), fmt.Sprintf("partition %d", p))
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		reports[p], partitions[p] = r.Finish(), nil
	}
	all := replay.Merge(reports...)
	return &all, ctx.Err()
}

func (a *app) tellReplay(r *replay.Report, name string) error {
	if a.output == asLines {
		for i := range r.Changed {
			if err := writeJSON(a.out, &r.Changed[i], ""); err != nil {
				return err
			}
		}
		return nil
	}
	var ids []string
	for i := range r.Changed {
		ids = append(ids, r.Changed[i].OpID)
	}
	return a.print(r, func(w io.Writer) { showReplay(w, r, name) }, ids...)
}

// showReplay says it in a sentence, and then in tables.
func showReplay(w io.Writer, r *replay.Report, name string) {
	switch {
	case r.Steps == 0:
		fmt.Fprintln(w, "There is nothing to replay: the journal has no step since then.")
		return
	case r.Same():
		fmt.Fprintf(w, "Under %s nothing would have been different: %s and %s are the same.\n",
			name, plural(r.Operations, "operation"), plural(r.Decisions.Recorded, "decision"))
	default:
		fmt.Fprintf(w, "Under %s %d of %s would have ended differently, and %d of %s would have been different.\n",
			name, len(r.Changed), plural(r.Operations, "operation"), len(r.Decisions.Changed),
			plural(max(r.Decisions.Recorded, r.Decisions.Replayed), "decision"))
	}
	fmt.Fprintf(w, "Replayed: %s from %s to %s.", plural(r.Steps, "step"), r.From.Local().Format(timeLayout), r.To.Local().Format(timeLayout))
	if r.Open > 0 {
		fmt.Fprintf(w, " Not compared: %s without an end.", plural(r.Open, "operation"))
	}
	x := r.Results
	fmt.Fprintf(w, "\nAttempts: %d as recorded, %d with a recorded result at another time, %d with an assumed success, %d without an answer, %d stopped.\n",
		x.Recorded, x.Moved, x.Assumed, x.Silent, x.Stopped)
	replayTurns(w, r)
	replayChanges(w, r)
	replayDecisions(w, r)
	replayWaits(w, r)
}

func replayTurns(w io.Writer, r *replay.Report) {
	if len(r.Turns) == 0 {
		return
	}
	g := grid{header: []string{"OPERATIONS", "RECORDED", "WOULD HAVE BEEN"}, right: []int{0}}
	for _, t := range r.Turns {
		would := t.Replayed.String()
		if t.Recorded == t.Replayed {
			would += ", to another one"
		}
		g.add(number(t.Count), t.Recorded.String(), would)
	}
	fmt.Fprintln(w)
	g.write(w)
	g = grid{header: []string{"END", "RECORDED", "WOULD HAVE BEEN"}, right: []int{1, 2}}
	for _, e := range r.Ends {
		g.add(e.String(), number(e.Recorded), number(e.Replayed))
	}
	fmt.Fprintln(w)
	g.write(w)
}

func replayChanges(w io.Writer, r *replay.Report) {
	if len(r.Changed) == 0 {
		return
	}
	verdict := func(v replay.Verdict) string {
		if v.Winner != "" {
			return v.String() + " (" + v.Winner + ")"
		}
		return v.String()
	}
	g := grid{header: []string{"OPERATION", "TYPE", "TARGET", "PRIORITY", "RECORDED", "WOULD HAVE BEEN"}}
	for i := range r.Changed[:min(len(r.Changed), maxShown)] {
		c := &r.Changed[i]
		g.add(c.OpID, c.OpType, c.Target, priority(c.Priority), verdict(c.Recorded), verdict(c.Replayed))
	}
	fmt.Fprintln(w)
	g.write(w)
	more(w, len(r.Changed))
}

func replayDecisions(w io.Writer, r *replay.Report) {
	all := r.Decisions.Changed
	if len(all) == 0 {
		return
	}
	ruling := func(d *replay.Ruling) string {
		if d == nil {
			return "none"
		}
		text := d.Winner + " alone"
		if d.Contenders > 1 {
			text = fmt.Sprintf("%s of %d", d.Winner, d.Contenders)
		}
		by := map[op.Verdict]int{}
		for _, c := range d.Losers {
			by[c.Verdict]++
		}
		for _, v := range []op.Verdict{op.VerdictRejected, op.VerdictQueued, op.VerdictRetry, op.VerdictCoalesced} {
			if by[v] > 0 {
				text += fmt.Sprintf(", %d %s", by[v], v)
			}
		}
		return text
	}
	g := grid{header: []string{"DECISION", "RECORDED", "WOULD HAVE BEEN"}}
	for i := range all[:min(len(all), maxShown)] {
		g.add(fmt.Sprintf("%s, %d", all[i].Target, all[i].N), ruling(all[i].Recorded), ruling(all[i].Replayed))
	}
	fmt.Fprintln(w)
	g.write(w)
	more(w, len(all))
}

func more(w io.Writer, n int) {
	if n > maxShown {
		fmt.Fprintf(w, "… and %d more; -o json has all\n", n-maxShown)
	}
}

// replayWaits shows how long it took until operations were promoted.
func replayWaits(w io.Writer, r *replay.Report) {
	g := grid{
		header: []string{"PRIORITY", "PROMOTED", "WOULD BE", "WAIT P50", "WOULD BE", "WAIT P99", "WOULD BE"},
		right:  []int{1, 2, 3, 4, 5, 6},
	}
	for i := range r.Waits {
		x := &r.Waits[i]
		name := "all"
		if x.Priority > 0 {
			name = priority(x.Priority)
		}
		cells := []string{name, number(x.Recorded.Promoted), number(x.Replayed.Promoted), "", "", "", ""}
		for k, s := range []replay.Waited{x.Recorded, x.Replayed} {
			if s.Promoted > 0 {
				cells[3+k], cells[5+k] = ms(s.P50MS), ms(s.P99MS)
			}
		}
		g.add(cells...)
	}
	if len(g.rows) > 0 {
		fmt.Fprintln(w)
		g.write(w)
	}
}
