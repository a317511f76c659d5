//go:build race

package replay

// fewer histories are played under the race detector, which is many times slower:
// a replay has no goroutines, and the full number is played without it.
func fewer(n int) int { return n / 5 }
