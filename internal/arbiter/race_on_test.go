//go:build race

package arbiter_test

// fewer rounds are played under the race detector, which is many times slower:
// the machine has no goroutines, and the full number is played without it.
func fewer(n int) int { return n / 8 }

// fullest is how many operations come in one of the ten thousand windows at most.
const fullest = 40
