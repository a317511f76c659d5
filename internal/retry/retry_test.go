package retry_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hierarchy-bus/hierarchy/internal/retry"
)

const (
	base = 100 * time.Millisecond
	most = 5 * time.Second
)

func TestDelayDoublesUpToTheLimit(t *testing.T) {
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000}
	for n, w := range want {
		if got := retry.Delay(n, 0.5, base, most); got != w*time.Millisecond {
			t.Errorf("failure %d: %s, want %s", n, got, w*time.Millisecond)
		}
	}
}

func TestJitterIsAFifthEachWay(t *testing.T) {
	for jitter, want := range map[float64]time.Duration{
		0: 4 * time.Second, 0.25: 4500 * time.Millisecond, 0.75: 5500 * time.Millisecond, 1: 6 * time.Second,
		-3: 4 * time.Second, 7: 6 * time.Second, math.Inf(1): 6 * time.Second,
	} {
		if got := retry.Delay(40, jitter, base, most); got != want {
			t.Errorf("jitter %v: %s, want %s", jitter, got, want)
		}
	}
	if got := retry.Delay(40, math.NaN(), base, most); got != 4*time.Second {
		t.Errorf("jitter NaN: %s, want 4s", got)
	}
}

// TestEveryDelayIsReached: ten thousand draws fill each twentieth of the range that
// is allowed, and the two ends of it are met.
func TestEveryDelayIsReached(t *testing.T) {
	for n := range 8 {
		full := min(base<<n, most)
		counts := make([]int, 20)
		for i := range 10_000 {
			d := retry.Delay(n, float64(i)/10_000, base, most)
			share := (float64(d)/float64(full) - 0.8) / 0.4
			if share < -1e-8 || share >= 1 {
				t.Fatalf("failure %d: %s is outside 0.8 to 1.2 times %s", n, d, full)
			}
			counts[int(math.Floor(share*20+1e-6))]++
		}
		for i, c := range counts {
			if c != 500 {
				t.Errorf("failure %d: %d of 10,000 even draws fall into the twentieth %d", n, c, i)
			}
		}
	}
}

func TestDelayKeepsWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int().Draw(t, "n")
		jitter := rapid.Float64Range(0, 0.999999).Draw(t, "jitter")
		base := time.Duration(rapid.Int64().Draw(t, "base"))
		most := time.Duration(rapid.Int64().Draw(t, "most"))
		d := retry.Delay(n, jitter, base, most)
		switch {
		case d < 0:
			t.Fatalf("delay %s is negative", d)
		case base <= 0 || most <= 0:
			if d != 0 {
				t.Fatalf("delay %s without a base or a limit", d)
			}
		case float64(d) > 1.2*float64(most):
			t.Fatalf("delay %s is longer than 1.2 times %s", d, most)
		case float64(d)+1 < 0.8*float64(min(base, most)):
			t.Fatalf("delay %s is shorter than 0.8 times the base %s", d, base)
		}
		if n < math.MaxInt && retry.Delay(n+1, jitter, base, most) < d {
			t.Fatalf("failure %d waits less than failure %d", n+1, n)
		}
	})
}
