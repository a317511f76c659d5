// Command bench measures what a submission costs, against a floor in the same
// run: the same path through the same server with no arbitration in it. Machines
// are noisy and shared, so only ratios within one run mean anything; each case
// runs in a process of its own, several times, interleaved with the others, and
// the medians are reported.
//
//	go run ./bench                     a table, five rounds
//	go run ./bench -rounds 1 -json -   one round, as JSON
//
// Cases:
//
//	floor   intake, one fenced message a group, work, result, one fenced message
//	        a group, notification; no arbitration, no entities, no events
//	single  uncontended operations over 1,000 entities, one message each
//	bulk    the same, packed as `hierarchy submit -f` does
//	burst   bursts of 3 to 8 operations on one of 10 targets, losers rejected
//	hot     one target, on_conflict queue
//
// Latency is from the submission to the notification about the terminal state,
// minus the staging window.
package main
