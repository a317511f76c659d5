// Package linear has many clients work on few entities of a system of three servers
// and all roles, real processes each, while these are killed, stopped, and made to
// step down, and checks that every client saw a register with compare-and-set
// (internal/linear).
//
//	make linear                         100,000 calls
//	go test ./scenarios/linear          a few seconds of the same
//
// There is nothing to import here; the package consists of tests.
package linear
