package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Escape sequences of a terminal: its second screen, so that what stood there
// before comes back, and drawing over the last frame.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	endOfLine   = "\x1b[K\n"
	below       = "\x1b[J"
)

// frame is what top shows at one instant.
type frame struct {
	Type   string          `json:"type"` // ops.v1.top
	Stats  observer.Stats  `json:"stats"`
	Health observer.Health `json:"health"`
}

func (a *app) top() *cobra.Command {
	once := false
	every := time.Second
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show throughput, backlog and the busiest targets, again and again",
		Long: `The numbers are those of an observer, over the whole journal. On a terminal the
table is drawn in place until Ctrl-C; elsewhere one follows the other.`,
		Example: `  hierarchy top
  hierarchy top --once
  hierarchy top -o jsonl --interval 10s`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return usagef("--interval must be at least 100ms")
			}
			if once {
				return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
					f, err := look(ctx, b)
					if err != nil {
						return err
					}
					return a.print(f, f.show, f.targets()...)
				})
			}
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.runTop(ctx, b, every) })
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "show one table and end")
	cmd.Flags().DurationVar(&every, "interval", every, "time between two tables")
	return cmd
}

// look asks an observer for everything.
func look(ctx context.Context, b *bus.Bus) (*frame, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	f := &frame{Type: "ops.v1.top"}
	if err := askObserver(ctx, b, "stats", &f.Stats); err != nil {
		return nil, err
	}
	return f, askObserver(ctx, b, "health", &f.Health)
}

func (a *app) runTop(ctx context.Context, b *bus.Bus, every time.Duration) error {
	live := a.output == asTable && terminal(a.out)
	if live {
		fmt.Fprint(a.out, enterScreen)
		defer fmt.Fprint(a.out, leaveScreen)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		f, err := look(ctx, b)
		if err != nil {
			return err
		}
		if live {
			err = f.draw(a.out)
		} else {
			err = a.print(f, f.show, f.targets()...)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// draw shows the frame over the one before, in one write so that it does not
// flicker.
func (f *frame) draw(w io.Writer) error {
	var text bytes.Buffer
	f.show(&text)
	_, err := fmt.Fprint(w, home+strings.ReplaceAll(text.String(), "\n", endOfLine)+below)
	return err
}

func (f *frame) show(w io.Writer) {
	s, h := &f.Stats, &f.Health
	fmt.Fprintf(w, "%s  %s  policy %d  journal %d\n", s.At.Local().Format("2006-01-02 15:04:05"), h.Status, s.Policy, s.JournalSeq)
	for _, why := range h.Reasons {
		fmt.Fprintf(w, "  %s\n", why)
	}
	fmt.Fprintf(w, "%.1f/s ended  %d pending  %d executing  %d unread  oldest pending %s, executing %s\n",
		s.Throughput, s.Pending, s.Executing, h.Checks.EventBus.QueueSize, age(s.OldestPending), age(s.OldestExecuting))
	fmt.Fprintf(w, "%s decided, %d of %d conflicts, %d saved by grace, %d protected, %s lapsed\n\n",
		plural(int(s.Decisions), "target"), s.ConflictsResolved, s.ConflictsDetected, s.GraceSaves, s.ExecutingProtections, plural(int(s.Lapsed), "attempt"))
	f.priorities(w)
	if len(s.Backlog) > 0 {
		fmt.Fprintln(w)
		g := grid{header: []string{"TARGET", "STAGED", "EXECUTING"}, right: []int{1}}
		for _, b := range s.Backlog {
			g.add(b.Target, number(b.Staged), b.Executing)
		}
		g.plain(w)
	}
	fmt.Fprintln(w)
	f.owners(w)
}

// priorities shows what became of the operations of each priority, the highest
// first, and how those fare that wait: for how long the oldest of them, and how
// many decisions operations of that priority have lost.
func (f *frame) priorities(w io.Writer) {
	g := grid{
		header: []string{"PRIORITY", "SUBMITTED", "SUCCEEDED", "REJECTED", "CANCELLED", "RETRIED", "OPEN", "WAITING", "OLDEST", "LOST"},
		right:  []int{1, 2, 3, 4, 5, 6, 7, 8, 9},
	}
	line := func(name string, t observer.Tally, s observer.Starvation) {
		g.add(name, number(t.Submitted), number(t.Completed), number(t.Rejected), number(t.Cancelled), number(t.Retried), number(t.Open()),
			number(s.Waiting), age(s.Oldest), number(s.Lost))
	}
	var all observer.Starvation
	for p := op.Critical; p >= op.Background; p-- {
		if t, ok := f.Stats.ByPriority[p.String()]; ok {
			s := f.Stats.Starvation[p.String()]
			all.Waiting, all.Oldest, all.Lost = all.Waiting+s.Waiting, max(all.Oldest, s.Oldest), all.Lost+s.Lost
			line(priority(p), t, s)
		}
	}
	line("all", f.Stats.Tally, all)
	g.plain(w)
}

// owners shows how many partitions each resolver has.
func (f *frame) owners(w io.Writer) {
	n, last := map[string]int{}, map[string]time.Time{}
	for _, p := range f.Stats.Partitions {
		n[p.Owner]++
		if p.At.After(last[p.Owner]) {
			last[p.Owner] = p.At
		}
	}
	g := grid{header: []string{"RESOLVER", "PARTITIONS", "LAST STEP"}, right: []int{1}}
	for _, name := range sortedKeys(n) {
		g.add(name, number(n[name]), last[name].Local().Format("15:04:05.000"))
	}
	g.plain(w)
}

// targets are the names that -o name prints: where most is waiting.
func (f *frame) targets() []string {
	var names []string
	for _, b := range f.Stats.Backlog {
		names = append(names, b.Target)
	}
	return slices.Clip(names)
}

// age writes seconds as people say them.
func age(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d <= 0:
		return "none"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", seconds)
	}
	return d.Round(time.Second).String()
}
