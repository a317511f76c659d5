// Package natstest runs a real JetStream server inside a synctest bubble, so a
// test can let an hour of broker time pass in milliseconds. It is for tests, ours
// and by way of pkg/optest those of users.
//
// It leans on internals of one version of nats-server: TestClockIsFake fails
// when an upgrade breaks that. One server, connected in process: a cluster,
// sockets and TLS do not work in a bubble, and neither does t.Run. [One] is a
// server and [Three] a cluster outside of one.
package natstest

import (
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/natsd"
)

// The client library keeps timers in a pool for the whole binary. A timer made
// in one bubble must not be used outside it, nor the other way round, so the
// pool is emptied on the way in and out: a second collection drops what the
// first one has set aside.
func dropPools() {
	runtime.GC()
	runtime.GC()
}

// Bubble calls f inside a bubble in which servers of package natsd, without a
// listener, and connections to them may live. dir is a directory for their files
// that outlives the bubble. A test that calls it must not run in parallel with
// others.
func Bubble(t *testing.T, f func(t *testing.T, dir string)) {
	t.Helper()
	// The server keeps one ticker goroutine per binary, parked on a package-level
	// channel. A bubble cannot be idle while it holds that goroutine, so it is
	// started here, outside, and released when the bubble is gone.
	ats.Register()
	defer ats.Unregister()
	dropPools()
	defer dropPools()
	dir := t.TempDir() // outside the bubble: removal must outlive it
	synctest.Test(t, func(t *testing.T) { f(t, dir) })
}

// Run calls f in a [Bubble] with a server that lives as long as f.
func Run(t *testing.T, f func(t *testing.T, s *Server)) {
	t.Helper()
	Bubble(t, func(t *testing.T, dir string) {
		s := &Server{dir: dir}
		s.Start(t)
		t.Cleanup(func() {
			// A server that stops sleeps under its locks. A request that waits for one
			// of those would keep the bubble's time from passing, so they end first.
			synctest.Wait()
			s.Stop()
		})
		f(t, s)
	})
}

// Server is an in-process JetStream server that can be stopped and restarted on
// the same files. Its methods must be called from inside the bubble.
type Server struct {
	dir string
	s   atomic.Pointer[natsd.Server] // a client that reconnects reads it while Start replaces it
}

// Start starts the server and waits until it accepts connections.
func (s *Server) Start(t *testing.T) {
	t.Helper()
	srv, err := natsd.Start(natsd.Options{StoreDir: s.dir, Port: natsd.NoListener})
	if err != nil {
		t.Fatal(err)
	}
	s.s.Store(srv)
}

// Stop stops the server and waits for its goroutines.
func (s *Server) Stop() { s.s.Load().Stop() }

// InProcessConn opens one end of a pipe to the server that runs now, which makes
// it a [nats.InProcessConnProvider] that survives a restart.
func (s *Server) InProcessConn() (net.Conn, error) { return s.s.Load().InProcessConn() }

// Connect returns a connection that closes with the test.
func (s *Server) Connect(t *testing.T, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", append([]nats.Option{nats.InProcessServer(s)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// One starts a server with its files in a folder of the test, and a connection to it,
// until the test ends. It lives outside of any bubble.
func One(t testing.TB) (*natsd.Server, *nats.Conn) {
	t.Helper()
	s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Port: natsd.NoListener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return s, nc
}

// Three starts three servers with their files under dir, and a connection to them,
// until the test ends. They live outside of any bubble.
func Three(t testing.TB, dir string) (*natsd.Cluster, *nats.Conn) {
	t.Helper()
	c, err := natsd.StartCluster(3, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	nc, err := c.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return c, nc
}
