package main

import (
	"fmt"
	"io"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
	"github.com/hierarchy-bus/hierarchy/internal/torture"
)

// tortureLine is the progress in one line.
func tortureLine(p *torture.Progress) string {
	return fmt.Sprintf("%s %.0fs · %d accepted, %d ended, %d succeeded · %d faults, %d failpoints acted",
		p.Phase, p.Elapsed.Seconds(), p.Accepted, p.Ended, p.Succeeded, p.Faults, p.Hits)
}

func showTorture(w io.Writer, r *torture.Report) {
	fmt.Fprintf(w, "seed %d, %s, %.0f s of faults\n\n", r.Seed, plural(r.Nodes, "server"), r.Duration.Seconds())
	if len(r.Matrix) > 0 {
		showMatrix(w, r.Matrix)
	}
	for _, kind := range sortedKeys(r.FaultKinds) {
		fmt.Fprintf(w, "  %-20s %d\n", kind, r.FaultKinds[kind])
	}
	hits := 0
	for _, n := range r.Failpoints {
		hits += n
	}
	b, v := &r.Balance, r.Verify
	fmt.Fprintf(w, "%s, %d failpoints acted, %d times; %d take-overs, %d outages of %.1f s in all\n\n",
		plural(len(r.Faults), "fault"), len(r.Failpoints), hits, r.Takeovers, r.Outages, r.Outage.Seconds())
	fmt.Fprintf(w, "%d submissions were accepted, %d refused, %d nobody knows (%d of them are stored)\n", b.Accepted, b.Refused, b.Unknown, b.Stored)
	fmt.Fprintf(w, "%d operations have ended, %d of them succeeded; %d ends were told to a client\n\n", r.Ended, r.Succeeded, b.Told)
	fmt.Fprintf(w, "%s acknowledged and lost             %d\n", tick(b.LostCount == 0), b.LostCount)
	fmt.Fprintf(w, "%s book and log differ               %d\n", tick(b.Bad == 0), b.Bad)
	fmt.Fprintf(w, "%s violations of the invariants      %d of %d steps, %d decisions\n", tick(v.OK()), v.Total, v.Steps, v.Decisions)
	fmt.Fprintf(w, "%s longest gap of one target         %s (at most %s)\n", tick(len(r.SlowTargets) == 0), gap(&r.KeyGap), r.KeyBound)
	fmt.Fprintf(w, "  longest gap of the whole system   %s\n", gap(&r.LongestGap))
	fmt.Fprintf(w, "  quiet after                       %s\n", seconds(r.Quiescence))
	fmt.Fprintf(w, "%s what no fault explains            %d\n", tick(len(r.Unexpected) == 0), len(r.Unexpected))
	for _, f := range r.Failures {
		fmt.Fprintf(w, "\nFAILED: %s\n", f)
	}
	if r.Kept != "" {
		fmt.Fprintf(w, "\nlogs and files are in %s\n", r.Kept)
	}
}

// gap is how long it was after the last fault, and how long at all.
func gap(g *torture.Gap) string {
	text := seconds(g.Blamed)
	if g.Longest-g.Blamed > 10*time.Millisecond {
		text += fmt.Sprintf(" after the last fault that concerns it, %s in all", seconds(g.Longest))
	}
	if g.Target != "" {
		text += "; " + g.Target
	}
	return text
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// showMatrix prints a line a failpoint: how often each action was seen there.
func showMatrix(w io.Writer, cells []torture.Cell) {
	var actions []failpoint.Action
	by := map[string]map[failpoint.Action]torture.Cell{}
	seen := map[failpoint.Action]bool{}
	for _, c := range cells {
		if by[c.Point] == nil {
			by[c.Point] = map[failpoint.Action]torture.Cell{}
		}
		by[c.Point][c.Action] = c
		if !seen[c.Action] {
			seen[c.Action] = true
			actions = append(actions, c.Action)
		}
	}
	g := grid{header: []string{"FAILPOINT"}}
	for _, a := range actions {
		g.header = append(g.header, string(a))
	}
	for _, point := range sortedKeys(by) {
		row := []string{point}
		for _, a := range actions {
			c := by[point][a]
			text := fmt.Sprintf("%d/%d", c.Hit, c.Wanted)
			if c.Missed > 0 {
				text += fmt.Sprintf(" (%d missed)", c.Missed)
			}
			row = append(row, text)
		}
		g.add(row...)
	}
	g.write(w)
	fmt.Fprintln(w)
}
