package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// versionInfo says what this program is made of.
type versionInfo struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	NATS    string `json:"nats_server"` // the embedded one
}

// String is the one line of `hierarchy version`.
func (v versionInfo) String() string {
	return fmt.Sprintf("hierarchy %s (%s, nats-server %s)", v.Version, v.Go, v.NATS)
}

func versions() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), NATS: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/nats-io/nats-server/v2" {
				v.NATS = strings.TrimPrefix(m.Version, "v")
			}
		}
	}
	return v
}
