// Package tidy holds the rules about this repository that a compiler does not
// know: which package may import which, what a pure package must not do, how
// long a file may be, what has to be documented and which words stay out. Its
// tests apply them to the repository; each rule is also tried on planted faults,
// so that a rule that finds nothing is known to look.
//
// To add a package, give it a place in [Layers]; to make a package pure, add it
// to [Pure]. Every check takes sources as a [Tree] and returns [Finding] values;
// nothing here is safe for concurrent use, and nothing outside the tests of this
// package uses it.
package tidy
