package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/stress"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// show draws the summary of a run.
func (r loadReport) show(w io.Writer) {
	fmt.Fprintf(w, "\n%d operations in %.1f s (%.0f/s), %d decisions, %d follow-ups\n",
		r.Submitted, r.Elapsed.Seconds(), r.Rate, r.Decisions, r.FollowUps)
	r.table(w)
	r.reasons(w)
	fmt.Fprintf(w, "\nmemory %s (peak %s) · cpu %.1f s, %.0f %% of %s · decision p50 %s, p99 %s\n\n",
		megabytes(r.Process.RSS), megabytes(r.Process.RSSPeak), r.Process.CPUSeconds, 100*r.Process.CPUShare,
		plural(r.Process.Cores, "core"), ms(r.Total.Decision.P50), ms(r.Total.Decision.P99))
	t := r.Total
	fmt.Fprintf(w, "%s every operation is accounted for: %d = %d succeeded + %d rejected + %d cancelled + %d open\n",
		tick(r.accounted()), r.Submitted, t.Succeeded, t.Rejected, t.Cancelled, t.Open)
	if n := r.Verify.Foreign; n > 0 {
		fmt.Fprintf(w, "- %s of others open, and left alone\n", plural(n, "operation"))
	}
	showGroups(w, r.Verify)
}

func (r loadReport) table(w io.Writer) {
	g := grid{
		header: []string{"PRIORITY", "SUBMITTED", "SUCCEEDED", "REJECTED", "RETRIED", "CANCELLED", "OPEN", "DECISION P50", "P99"},
		right:  []int{1, 2, 3, 4, 5, 6, 7, 8},
	}
	line := func(name string, x *stress.Row) {
		g.add(name, number(x.Submitted), number(x.Succeeded), number(x.Rejected), number(x.Retried),
			number(x.Cancelled), number(x.Open), ms(x.Decision.P50), ms(x.Decision.P99))
	}
	for i := range r.ByPriority {
		line(priority(r.ByPriority[i].Priority), &r.ByPriority[i])
	}
	line("all", &r.Total)
	g.write(w)
}

func (r loadReport) reasons(w io.Writer) {
	var parts []string
	for _, x := range op.Reasons() {
		if n := r.Reasons[string(x.Reason)]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", x.Reason, n))
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(w, "reasons: %s\n", strings.Join(parts, ", "))
	}
}

func megabytes(n int64) string {
	if n == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.0f MB", float64(n)/(1<<20))
}

// groupTexts say in a few words what each family of invariants is about.
var groupTexts = map[audit.Group]string{
	audit.GroupLog:        "the journal is one unbroken chain, written by its owners",
	audit.GroupLife:       "every life follows the transition table and ends exactly once",
	audit.GroupResolution: "the best contender won each decision, and a second computation agrees",
	audit.GroupEffects:    "never two attempts on one target; every effect applied exactly once",
	audit.GroupCauses:     "everything that has a cause has the right one",
	audit.GroupViews:      "the views and the events say what the journal says",
	audit.GroupClients:    "what clients were told is true",
}

// groupOf is the family that an invariant's name begins with.
func groupOf(inv audit.Invariant) audit.Group {
	g, _, _ := strings.Cut(inv.Name, ".")
	return audit.Group(g)
}

// groups returns the families in the order of the catalogue.
func groups() []audit.Group {
	var all []audit.Group
	for _, inv := range audit.Invariants() {
		if !slices.Contains(all, groupOf(inv)) {
			all = append(all, groupOf(inv))
		}
	}
	return all
}

// checked reports whether a family was checked: what clients were told is only for
// those who bring it.
func checked(g audit.Group, r *verify.Result) bool { return g != audit.GroupClients || r.Acks > 0 }

// showGroups prints one tick a family that was checked, and the violations.
func showGroups(w io.Writer, r *verify.Result) {
	for _, g := range groups() {
		if !checked(g, r) {
			continue
		}
		n, broken := 0, 0
		for _, inv := range audit.Invariants() {
			if groupOf(inv) == g {
				n++
				broken += r.ByInvariant[inv.Name]
			}
		}
		fmt.Fprintf(w, "%s %s (%s)\n", tick(broken == 0), groupTexts[g], plural(n, "invariant"))
	}
	showViolations(w, r)
}

// maxShown bounds the violations that are printed; -o json has more.
const maxShown = 20

func showViolations(w io.Writer, r *verify.Result) {
	for i, v := range r.Violations {
		if i == maxShown {
			break
		}
		fmt.Fprintf(w, "  %s\n", v)
	}
	if r.Total > maxShown {
		fmt.Fprintf(w, "  … and %d more\n", r.Total-maxShown)
	}
}
