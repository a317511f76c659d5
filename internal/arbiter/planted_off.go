//go:build !plantedfault

package arbiter

// plantedFault is false in every build but the one that shows that the auditor
// can fail: go run -tags plantedfault ./cmd/hierarchy demo.
const plantedFault = false
