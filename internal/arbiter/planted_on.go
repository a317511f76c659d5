//go:build plantedfault

package arbiter

// plantedFault lets the runner-up through instead of the winner.
const plantedFault = true
