//go:build !race

package arbiter_test

func fewer(n int) int { return n }

// fullest is how many operations come in one of the ten thousand windows at most.
const fullest = 64
