// Package stress puts a workload on a running system and reports what became of
// it: [Run] submits the bursts of a [Profile] at its rate, waits until every
// operation has ended, and then reads the journal to account for each of them
// and to measure how long the decisions took.
//
// What is submitted is a function of the profile, the run's name and the seed.
// When it happens is not: two runs of the same seed differ in who met whom.
//
// A submission whose outcome is unknown is sent again under the same id until
// the outcome is known; one that the intake refuses is counted as refused and
// not submitted again. Nothing is ever counted twice.
package stress
