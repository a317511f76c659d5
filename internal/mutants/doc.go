// Mutants shows that the tests can fail. Each mutant is a deliberate fault in the
// real code, and names the test that has to notice it and the words in which it
// must say so: an invariant of internal/audit, or what a test reports.
//
//	go run ./internal/mutants             all of them (make mutants)
//	go run ./internal/mutants -run fence  those whose name matches
//	go run ./internal/mutants -list       what there is
//
// A mutant is caught when the named test passes without it and fails with it, for
// the named reason. It is an error when one survives, when its text does not stand
// in its file exactly once any more, when it does not compile, and when the named
// test fails for another reason: a time-out, or no word of what is wrong. The exit
// code is 1 then. No file of the working tree is changed: a fault reaches the
// compiler by `go test -overlay`.
//
// To add one, append an entry to a table: table_*.go. To mend one whose text has
// moved, change its old text to what stands there now.
package main
