package stress

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is what this whole process has used: with an embedded server, all
// roles and the server.
type Process struct {
	RSS        int64   `json:"rss_bytes"`      // now; 0 where the system does not tell
	RSSPeak    int64   `json:"rss_peak_bytes"` // since the start of the process
	CPUSeconds float64 `json:"cpu_seconds"`    // during the run
	CPUShare   float64 `json:"cpu_share"`      // of all cores during the run, 0 to 1
	Goroutines int     `json:"goroutines"`
	Cores      int     `json:"cores"`
	GoVersion  string  `json:"go_version"`
}

// cpu returns what the process has used since its start.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// process measures; used is the CPU time of a run that took elapsed.
func process(used, elapsed time.Duration) Process {
	p := Process{
		CPUSeconds: used.Seconds(),
		Goroutines: runtime.NumGoroutine(),
		Cores:      runtime.NumCPU(),
		GoVersion:  runtime.Version(),
	}
	if elapsed > 0 {
		p.CPUShare = used.Seconds() / elapsed.Seconds() / float64(p.Cores)
	}
	p.RSS, p.RSSPeak = memory("/proc/self/status")
	return p
}

// memory reads the resident size and its peak, in bytes, from a file in the form
// of /proc/self/status. A system without it has zeros.
func memory(path string) (now, peak int64) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0
	}
	defer f.Close() //nolint:errcheck // only read
	for s := bufio.NewScanner(f); s.Scan(); {
		name, rest, _ := strings.Cut(s.Text(), ":")
		value, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			now = value << 10
		case "VmHWM":
			peak = value << 10
		}
	}
	return now, peak
}
