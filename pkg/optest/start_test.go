package optest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/optest"
)

// starts is how many systems the median is of.
const starts = 20

// BenchmarkStart prints the medians of twenty starts and ends: what a test pays
// for a system.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		var up, down []time.Duration
		for range starts {
			began := time.Now()
			l, err := optest.Open(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			up = append(up, time.Since(began))
			began = time.Now()
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			down = append(down, time.Since(began))
		}
		b.ReportMetric(float64(median(up).Microseconds())/1000, "ms/start")
		b.ReportMetric(float64(median(down).Microseconds())/1000, "ms/end")
	}
}

// A start takes some tens of milliseconds. The quickest of some is asked, because
// the machine may be busy with something else, and the bound is one that a start
// would break which waits for a lease or a time-out.
func TestStartIsQuick(t *testing.T) {
	var up []time.Duration
	for range 5 {
		began := time.Now()
		l, err := optest.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		up = append(up, time.Since(began))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("median of %d starts: %s", len(up), median(up))
	if least := slices.Min(up); least >= time.Second {
		t.Errorf("a start takes %s", least)
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
