// Package doctor looks at a running system from outside and says what is wrong
// with it, and which of the promises (contract §8) hold as it is set up. It asks
// the server, every role and the monitoring ports that it is told; it changes
// nothing.
//
// [Look] gathers facts and [Judge] judges them: the second is a function of the
// first, so that what is said about a power cut can be tested without one.
package doctor
