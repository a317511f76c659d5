//go:build race

package audit_test

const (
	defaultLives = 15
	everyStep    = false
)
