// Package retry says how long a failed operation stays away from arbitration
// (contract §5). It is pure: the jitter is drawn by the caller and recorded, so
// that every delay can be recomputed from the log.
//
// It returns no errors: whatever it is given, the delay is between 0 and 1.2
// times the maximum. Safe for concurrent use.
package retry

import (
	"math"
	"time"
)

// The jitter stretches a delay by a factor out of [low, low+width), so that
// operations that failed together do not come back together.
const (
	low   = 0.8
	width = 0.4
)

// Delay returns how long to wait after the n-th failure, n counting from 0:
//
//	min(base · 2ⁿ, most) · (0.8 + 0.4 · jitter)
//
// jitter is a draw from [0, 1); what lies outside is moved to the nearer end.
// The limit counts before the jitter, so the longest delay is 1.2 · most. A
// negative n counts as 0; a base or most that is not positive gives no delay.
func Delay(n int, jitter float64, base, most time.Duration) time.Duration {
	if base <= 0 || most <= 0 {
		return 0
	}
	d := base
	for ; n > 0 && d < most; n-- {
		if d > most/2 { // doubling would pass the limit, or overflow
			d = most
			break
		}
		d *= 2
	}
	d = min(d, most)
	if !(jitter > 0) { // also not a number
		jitter = 0
	}
	stretched := float64(d) * (low + width*min(jitter, 1))
	if stretched >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(stretched)
}
