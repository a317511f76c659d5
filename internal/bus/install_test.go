package bus

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A cluster that misses a server for a moment is waited for, one that goes on missing
// it is not, and what no waiting helps is told at once.
func TestInstallWaitsForAServer(t *testing.T) {
	missing := &jetstream.APIError{Code: 400, ErrorCode: codeNoPeers}
	alone := &jetstream.APIError{Code: 500, ErrorCode: codeNoCluster}
	for name, c := range map[string]struct {
		fails       int // how often, before it works
		err, want   error
		least, most time.Duration
	}{
		"works":               {0, nil, nil, 0, 0},
		"a server that comes": {4, missing, nil, 30 * time.Millisecond, 31 * time.Millisecond},
		"one that does not":   {1 << 20, missing, missing, shortPatience, shortPatience + 300*time.Millisecond},
		"no cluster":          {1 << 20, alone, ErrNoCluster, 0, 0},
		"something else":      {1 << 20, errors.ErrUnsupported, errors.ErrUnsupported, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, asked := time.Now(), 0
				err := install(t.Context(), func() error {
					if asked++; asked <= c.fails {
						return c.err
					}
					return nil
				})
				if took := time.Since(begun); !errors.Is(err, c.want) || took < c.least || took > c.most {
					t.Errorf("%v after %s and %d times", err, took, asked)
				}
			})
		})
	}
}
