// Package scenarios runs the real programs against a real server and does to
// them what operators fear: SIGKILL, SIGSTOP and SIGCONT, leader changes, the
// end of everything at once. Each scenario ends with `hierarchy verify`, which
// recomputes every decision and every entity from the journal, and with exact
// accounting: what was acknowledged has ended, once.
//
// There is nothing to import here; the package consists of tests.
package scenarios
