package machine

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/scenarios/rig"
)

var form = flag.String("form", "", "short: some faults once; long: all, as often as docs/reliability.md says")

// TestMain runs nothing unless it is told how much: these are minutes of a machine
// that nobody else should use meanwhile.
func TestMain(m *testing.M) {
	flag.Parse()
	if *form != "short" && *form != "long" {
		fmt.Fprintln(os.Stderr, "machine: nothing was tried: make machine-short, or make machine")
		return
	}
	rig.Main(m)
}

// times is how often a fault is repeated.
func times(short, often int) int {
	if *form == "long" {
		return often
	}
	return short
}

// onlyLong leaves a scenario to the long form.
func onlyLong(t *testing.T) {
	t.Helper()
	if *form != "long" {
		t.Skip("part of the long form only: make machine")
	}
}

// healthy waits until every server says that it is.
func healthy(r *rig.Rig, patience time.Duration) {
	r.T.Helper()
	for _, n := range r.Nodes {
		r.Eventually(patience, fmt.Sprintf("%s to be healthy", n.URL()), func() bool { return health(r.T.Context(), n) == "ok" })
	}
}

// health is what a server says about itself; "" when it does not answer.
func health(ctx context.Context, n *rig.Node) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/healthz", n.Host, n.Monitor), nil) //nolint:nosprintfhostport // IPv4
	if err != nil {
		return ""
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return ""
	}
	defer a.Body.Close() //nolint:errcheck // only read
	var h struct {
		Status string `json:"status"`
	}
	if json.NewDecoder(a.Body).Decode(&h) != nil {
		return ""
	}
	return h.Status
}

// leader is the server that leads the submissions, or in every other round the
// journal. A fault of another server would be another fault, so there has to be one.
func leader(r *rig.Rig, round int) (at int) {
	r.T.Helper()
	stream := []string{bus.StreamIntake, bus.StreamJournal}[round%2]
	r.Eventually(30*time.Second, "a leader of "+stream, func() bool {
		s, err := r.Bus.JetStream().Stream(r.T.Context(), stream)
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		at = slices.IndexFunc(r.Nodes, func(n *rig.Node) bool { return n.Name() == s.CachedInfo().Cluster.Leader })
		return at >= 0
	})
	return at
}
