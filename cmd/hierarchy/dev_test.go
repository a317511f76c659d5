package main

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
)

// TestDevPortInUse: where somebody else listens, dev says how to do without.
func TestDevPortInUse(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was written
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	for name, args := range map[string][]string{
		"NATS": {"dev", "--port", port, "--http", ""},
		"HTTP": {"dev", "--port", "0", "--http", "127.0.0.1:" + port},
	} {
		var out, errs bytes.Buffer
		code := run(args, strings.NewReader(""), &out, &errs)
		if code != daemon.ExitOther || !strings.Contains(errs.String(), "hint: another program listens there; `--port 0` ") || !strings.Contains(errs.String(), "`--http ''`") {
			t.Errorf("%s: exit code %d, %s", name, code, errs.String())
		}
	}
}
