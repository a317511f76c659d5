package arbiter_test

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

var draws = fewer(10_000)

// factors lets operations fail, or fall silent, and returns by how much each delay
// was stretched. A step has the id that id gives it, and each of them lets together
// operations fail.
func factors(t *testing.T, together, failure int, silent bool, id func(step int) string) []float64 {
	t.Helper()
	var found []float64
	for step := 0; len(found) < draws; step++ {
		m := arbiter.New(0)
		p := arbiter.DefaultPolicy()
		p.StagingWindow, p.MaxExecuting = 0, together
		in := []arbiter.Input{{Policy: &p}}
		retries := failure + 1
		for i := range together {
			o := op.Operation{ID: "o" + strconv.Itoa(i), Type: op.TypeVersion, Target: "t" + strconv.Itoa(i), MaxRetries: &retries, OnConflict: op.OnConflictReject}
			in = append(in, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: 1, Index: i}, Operation: o}})
		}
		s := arbiter.Step{ID: "setup", Number: 1, At: epoch, In: in}
		m.Step(&s)
		for n := range failure + 1 {
			s = arbiter.Step{ID: id(step*(failure+1) + n), Number: uint64(2 + n), At: s.At.Add(6 * time.Second)}
			for at, due := m.Next(); due && !at.After(s.At); at, due = m.Next() {
				m.Step(&arbiter.Step{ID: "wake", Number: 2, At: s.At})
			}
			if silent {
				s.At = s.At.Add(30 * time.Second)
			}
			for i := range together {
				if silent {
					break
				}
				s.In = append(s.In, arbiter.Input{Result: &arbiter.Result{OpID: "o" + strconv.Itoa(i), Attempt: n + 1, Failure: &op.Failure{Message: "no"}}})
			}
			m.Step(&s)
		}
		base := min(100*time.Millisecond<<failure, 5*time.Second)
		for _, e := range s.Out {
			if e.Retry != nil && e.Retry.N == failure {
				found = append(found, float64(e.Retry.Delay)/float64(base))
			}
		}
		if len(found) == 0 {
			t.Fatal("nothing was retried")
		}
	}
	return found[:draws]
}

// uniform returns what speaks against x being uniform in [0.8, 1.2): bounds, a
// chi-square test over 20 classes and a Kolmogorov-Smirnov test, each at a level
// of 0.001, and a lag-one correlation beyond four standard errors.
func uniform(x []float64) (against []string) {
	const low, width, classes = 0.8, 0.4, 20
	n := float64(len(x))
	counts := make([]float64, classes)
	for _, v := range x {
		if v < low-1e-9 || v > low+width+1e-9 {
			return []string{fmt.Sprintf("%v is out of bounds", v)}
		}
		counts[min(max(int((v-low)/width*classes), 0), classes-1)]++
	}
	chi := 0.0
	for _, c := range counts {
		chi += (c - n/classes) * (c - n/classes) / (n / classes)
	}
	if chi > 43.82 { // 19 degrees of freedom
		against = append(against, fmt.Sprintf("chi-square is %.1f", chi))
	}
	sorted := slices.Sorted(slices.Values(x))
	distance := 0.0
	for i, v := range sorted {
		f := (v - low) / width
		distance = max(distance, math.Abs(f-float64(i)/n), math.Abs(float64(i+1)/n-f))
	}
	if distance > 1.95/math.Sqrt(n) {
		against = append(against, fmt.Sprintf("the distance from uniform is %.4f", distance))
	}
	covariance, variance := 0.0, 0.0
	for i, v := range x {
		variance += (v - 1) * (v - 1)
		if i > 0 {
			covariance += (v - 1) * (x[i-1] - 1)
		}
	}
	if r := covariance / variance; math.IsNaN(r) || math.Abs(r) > 4/math.Sqrt(n) {
		against = append(against, fmt.Sprintf("neighbours correlate by %.3f", r))
	}
	return against
}

func TestBackoffIsUniform(t *testing.T) {
	random := func(step int) string { // an id as the resolver draws them, but the same in every run
		return uuid.NewSHA1(uuid.NameSpaceOID, []byte(strconv.Itoa(step))).String()
	}
	counted := func(step int) string { return "step-" + strconv.Itoa(step) }
	for _, c := range []struct {
		name              string
		together, failure int
		silent            bool
		id                func(int) string
	}{
		{"one a step", 1, 0, false, random},
		{"all in one step", draws, 0, false, random},
		{"fifty a step", 50, 2, false, random},
		{"at the limit", 50, 6, false, random},
		{"ids that hardly differ", 1, 1, false, counted},
		{"nobody ever began", 50, 1, true, random},
	} {
		if against := uniform(factors(t, c.together, c.failure, c.silent, c.id)); against != nil {
			t.Errorf("%s: %v", c.name, against)
		}
	}
}

// TestUniformSees shows that the test above can fail.
func TestUniformSees(t *testing.T) {
	rng, last := newSeeded(1, 1), 0.0
	for _, c := range []struct {
		name string
		draw func(i int) float64
	}{
		{"no jitter", func(int) float64 { return 1 }},
		{"jitter of a tenth", func(int) float64 { return 0.9 + 0.2*rng.Float64() }},
		{"jitter of a quarter", func(int) float64 { return 0.75 + 0.5*rng.Float64() }},
		{"never longer", func(int) float64 { return 0.8 + 0.2*rng.Float64() }},
		{"a clump", func(i int) float64 {
			if i%20 == 0 {
				return 1.1
			}
			return 0.8 + 0.4*rng.Float64()
		}},
		{"each one three times", func(i int) float64 {
			if i%3 == 0 {
				last = 0.8 + 0.4*rng.Float64()
			}
			return last
		}},
		{"ten values", func(int) float64 { return 0.82 + 0.04*float64(rng.IntN(10)) }},
		{"bell", func(int) float64 { return 0.8 + 0.2*rng.Float64() + 0.2*rng.Float64() }},
		{"in turn", func(i int) float64 { return 0.8 + 0.4*float64(i)/float64(draws) }},
	} {
		x := make([]float64, draws)
		for i := range x {
			x[i] = c.draw(i)
		}
		if uniform(x) == nil {
			t.Errorf("%s is taken for uniform", c.name)
		}
	}
	fair := make([]float64, draws)
	for i := range fair {
		fair[i] = 0.8 + 0.4*rng.Float64()
	}
	if against := uniform(fair); against != nil {
		t.Errorf("a fair generator is refused: %v", against)
	}
}
