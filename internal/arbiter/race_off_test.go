//go:build !race

package arbiter_test

func fewer(n int) int { return n }
