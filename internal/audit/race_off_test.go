//go:build !race

package audit_test

const (
	defaultLives = 60
	everyStep    = true // of a large history loses an effect once
)
