package metrics

import (
	"io"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// touch gives every labelled metric of a role's struct one value, so that it is
// seen by a scrape.
func touch(t *testing.T, role any) {
	t.Helper()
	v := reflect.ValueOf(role).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsNil() {
			t.Fatalf("%s.%s is not set", v.Type().Name(), v.Type().Field(i).Name)
		}
		switch m := f.Interface().(type) {
		case *prometheus.CounterVec:
			m.WithLabelValues(values(m)...).Inc()
		case *prometheus.GaugeVec:
			m.WithLabelValues(values(m)...).Set(1)
		case *prometheus.HistogramVec:
			m.WithLabelValues(values(m)...).Observe(1)
		}
	}
}

// values returns as many label values as the metric has labels.
func values(c prometheus.Collector) []string {
	ch := make(chan *prometheus.Desc, 1)
	c.Describe(ch)
	d := (<-ch).String()
	for _, m := range Table() {
		if strings.Contains(d, `fqName: "`+m.Name+`"`) {
			return slices.Repeat([]string{"x"}, len(m.Labels))
		}
	}
	return nil
}

func full(t *testing.T) *Registry {
	t.Helper()
	r := New("1.2.3")
	touch(t, r.Resolver())
	touch(t, r.Executor())
	touch(t, r.Submitter())
	touch(t, r.Observer())
	return r
}

func TestTableIsWhatAScrapeSees(t *testing.T) {
	families, err := full(t).Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "ops_") {
			seen = append(seen, f.GetName())
		}
	}
	var want []string
	for _, m := range Table() {
		want = append(want, m.Name)
	}
	slices.Sort(want)
	if !slices.Equal(seen, want) {
		t.Errorf("scraped and table differ\nscraped %v\ntable   %v", seen, want)
	}
	if len(slices.Compact(want)) != len(Table()) {
		t.Error("a name stands in the table twice")
	}
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(full(t).Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "ops_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestNoIDs guards the promise that the number of time series is bounded: the
// labels are a closed list, and none of them is an id.
func TestNoIDs(t *testing.T) {
	allowed := []string{
		"type", "priority", "partition", "state", "reason", "status", "kind", "rule", "why", "code", "outcome",
		"transport", "stream", "version", "go_version", "invariant",
	}
	for _, m := range Table() {
		for _, l := range m.Labels {
			if !slices.Contains(allowed, l) {
				t.Errorf("%s: label %q is not in the closed list", m.Name, l)
			}
		}
	}
}

func TestEveryRowIsComplete(t *testing.T) {
	for _, m := range Table() {
		switch {
		case m.Help == "" || !strings.HasSuffix(m.Help, "."):
			t.Errorf("%s: the help is not a sentence", m.Name)
		case (m.Kind == Histogram) != (len(m.Buckets) > 0):
			t.Errorf("%s: buckets belong to histograms", m.Name)
		case !slices.IsSorted(m.Buckets):
			t.Errorf("%s: buckets are not sorted", m.Name)
		}
	}
}

func TestOriginalMetricsAreAllThere(t *testing.T) {
	have := map[string]bool{}
	for _, m := range Table() {
		have[m.Original] = true
	}
	for _, name := range []string{
		"operations_submitted", "operations_completed", "operations_rejected", "operations_failed", "conflicts_detected",
		"conflicts_resolved", "average_resolution_time", "throughput_ops_per_sec", "memory_usage_mb", "cpu_usage_percent",
		"grace_period_saves", "executing_protections",
	} {
		if !have[name] {
			t.Errorf("no metric stands for %s", name)
		}
	}
}

func TestRolesOfOneProcessShareTheirMetrics(t *testing.T) {
	r := New("")
	r.Resolver().Steps.Inc()
	r.Resolver().Steps.Inc()
	if got := testutil.ToFloat64(r.Resolver().Steps); got != 2 {
		t.Errorf("steps = %v, want 2", got)
	}
}

func TestNilRegistryWorks(t *testing.T) {
	var r *Registry
	touch(t, r.Resolver())
	touch(t, r.Executor())
	touch(t, r.Submitter())
	touch(t, r.Observer())
	r.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
	if _, err := r.Gatherer().Gather(); err != nil {
		t.Error(err)
	}
}

func TestHandlerServesTheTable(t *testing.T) {
	w := httptest.NewRecorder()
	New("9.9.9").Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, _ := io.ReadAll(w.Result().Body)
	for _, want := range []string{`ops_build_info{go_version="go`, `version="9.9.9"} 1`, "ops_process_memory_bytes ", "go_goroutines "} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %q in the scrape", want)
		}
	}
}

func TestProcessMeasuresItself(t *testing.T) {
	p := NewProcess()
	if p.Memory() < 1<<20 {
		t.Errorf("memory = %d bytes", p.Memory())
	}
	p.at = p.at.Add(-10 * collectEvery)
	p.used -= 5 * collectEvery
	if got := p.CPU(); got < .4 || got > 5 {
		t.Errorf("about 5 s of processor time in about 10 s give a ratio of %v", got)
	}
}
