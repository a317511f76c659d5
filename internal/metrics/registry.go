package metrics

import (
	"net/http"
	"runtime"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Registry is the metrics of one process. The roles of a process share it, and
// two roles of the same kind share one struct: their numbers add up. A nil
// Registry hands out metrics that nobody scrapes. It is safe for concurrent use.
type Registry struct {
	reg *prometheus.Registry

	mu        sync.Mutex
	resolver  *Resolver
	executor  *Executor
	submitter *Submitter
	observer  *Observer
}

// New returns the metrics of a process of the given version, with those of the
// Go runtime and the process itself.
func New(version string) *Registry {
	r := &Registry{reg: prometheus.NewRegistry()}
	r.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p := NewProcess()
	b := builder{r.reg}
	b.gauges("ops_build_info").WithLabelValues(version, runtime.Version()).Set(1)
	b.gaugeFunc("ops_process_memory_bytes", func() float64 { return float64(p.Memory()) })
	b.gaugeFunc("ops_process_cpu_ratio", p.CPU)
	return r
}

// Handler serves the metrics in the text formats of Prometheus.
func (r *Registry) Handler() http.Handler {
	if r == nil {
		return promhttp.HandlerFor(prometheus.NewRegistry(), promhttp.HandlerOpts{})
	}
	return promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Gatherer gives what a scrape would see, for tests and reports.
func (r *Registry) Gatherer() prometheus.Gatherer {
	if r == nil {
		return prometheus.NewRegistry()
	}
	return r.reg
}

// Resolver returns the resolver's metrics.
func (r *Registry) Resolver() *Resolver {
	if r == nil {
		return newResolver(builder{})
	}
	return once(r, &r.resolver, newResolver)
}

// Executor returns the executor's metrics.
func (r *Registry) Executor() *Executor {
	if r == nil {
		return newExecutor(builder{})
	}
	return once(r, &r.executor, newExecutor)
}

// Submitter returns the submitter's metrics.
func (r *Registry) Submitter() *Submitter {
	if r == nil {
		return newSubmitter(builder{})
	}
	return once(r, &r.submitter, newSubmitter)
}

// Observer returns the observer's metrics.
func (r *Registry) Observer() *Observer {
	if r == nil {
		return newObserver(builder{})
	}
	return once(r, &r.observer, newObserver)
}

func once[T any](r *Registry, have **T, make func(builder) *T) *T {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *have == nil {
		*have = make(builder{r.reg})
	}
	return *have
}

// builder makes metrics from their rows in the table and registers them, unless
// reg is nil.
type builder struct{ reg prometheus.Registerer }

// find returns the row of a metric. A name without a row is a bug of this
// package, which its tests meet on the first call.
func find(name string, kind Kind, labelled bool) Metric {
	for _, part := range [][]Metric{processTable, submitterTable, resolverTable, executorTable, observerTable} {
		i := slices.IndexFunc(part, func(m Metric) bool { return m.Name == name })
		if i < 0 {
			continue
		}
		if m := part[i]; m.Kind == kind && len(m.Labels) > 0 == labelled {
			return m
		}
		panic("metrics: " + name + " is another kind in the table")
	}
	panic("metrics: " + name + " is not in the table")
}

func register[C prometheus.Collector](b builder, c C) C {
	if b.reg != nil {
		b.reg.MustRegister(c)
	}
	return c
}

func (b builder) counter(name string) prometheus.Counter {
	m := find(name, Counter, false)
	return register(b, prometheus.NewCounter(prometheus.CounterOpts{Name: m.Name, Help: m.Help}))
}

func (b builder) counters(name string) *prometheus.CounterVec {
	m := find(name, Counter, true)
	return register(b, prometheus.NewCounterVec(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, m.Labels))
}

func (b builder) gauge(name string) prometheus.Gauge {
	m := find(name, Gauge, false)
	return register(b, prometheus.NewGauge(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}))
}

func (b builder) gaugeFunc(name string, f func() float64) {
	m := find(name, Gauge, false)
	register(b, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, f))
}

func (b builder) gauges(name string) *prometheus.GaugeVec {
	m := find(name, Gauge, true)
	return register(b, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, m.Labels))
}

func (b builder) histogram(name string) prometheus.Histogram {
	return register(b, prometheus.NewHistogram(histogramOpts(find(name, Histogram, false))))
}

func (b builder) histograms(name string) *prometheus.HistogramVec {
	m := find(name, Histogram, true)
	return register(b, prometheus.NewHistogramVec(histogramOpts(m), m.Labels))
}

// histogramOpts offers native buckets beside the classic ones: a server that
// knows them sees a p99 within ten per cent instead of within a bucket.
func histogramOpts(m Metric) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: m.Name, Help: m.Help, Buckets: m.Buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
	}
}
