//go:build !unix

package metrics

import "time"

// cpuTime is not known on this system, so the ratio stays 0.
func cpuTime() time.Duration { return 0 }
