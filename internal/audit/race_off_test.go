//go:build !race

package audit_test

// lives is how many random lives a test leads.
const lives uint64 = 60
