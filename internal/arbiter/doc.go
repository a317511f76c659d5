// Package arbiter decides who may run, who loses and why. It is pure: a
// [Machine] holds the open operations of one partition, [Machine.Step] consumes
// the inputs of one journal step and says what follows, and nothing else ever
// changes it. It reads no clock, draws no number and starts no goroutine: time is
// the instant recorded in the step, randomness is the step's recorded id.
//
// Whoever has the journal can therefore recompute every decision, and whoever
// takes a partition over arrives at the state its predecessor had.
//
// # When it goes wrong
//
// A step that could not be committed leaves a machine that knows too much: throw
// it away and load the partition again. [Machine.Replay] returns an error when a
// recorded step is not what the machine would have done; the partition must not
// be served then, because either the journal or the code is not the one that
// wrote it.
package arbiter
