// Package natsd runs nats-server with JetStream inside this process: one server
// for `hierarchy dev` and the demo, three for tests of what only a cluster can
// do. It is no substitute for a real deployment: a process that dies takes its
// servers with it.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// NoListener as [Options.Port] starts a server without a socket: it can only be
// reached by [Server.Connect].
const NoListener = -1

// readyTimeout bounds the start of one server. Recovery of a large store is
// part of it.
const readyTimeout = 30 * time.Second

// Options say how to start a server. The zero value of each field is usable
// except for StoreDir.
type Options struct {
	// Name is the server's name; empty lets the server choose one.
	Name string
	// StoreDir is where JetStream keeps its files. It is created if missing.
	StoreDir string
	// Host to listen on; default 127.0.0.1, since this server asks for no
	// password.
	Host string
	// Port to listen on: 0 a free one, NoListener none.
	Port int
	// SyncAlways has every write fsynced before it is acknowledged. Without it
	// a power cut can lose up to two minutes of acknowledged messages.
	SyncAlways bool
	// MaxStore and MaxMemory bound JetStream in bytes; 0 lets the server decide
	// from the machine.
	MaxStore, MaxMemory int64
	// Monitor is the port of the monitoring pages on Host, /healthz among them; 0:
	// none.
	Monitor int
	// ClusterPort is where the other servers of a cluster find this one, on Host;
	// 0: no cluster. Routes are the addresses of all of them as HOST:PORT; its own
	// may be among them.
	ClusterPort int
	Routes      []string
	// Logger gets the server's warnings and errors; nil drops them.
	Logger *slog.Logger
}

// Server is a running server. Its methods may be called from any goroutine.
type Server struct {
	s *server.Server
}

// Start starts a server and returns when it accepts connections.
func Start(o Options) (*Server, error) {
	opts, err := o.server()
	if err != nil {
		return nil, err
	}
	s, err := start(opts, o.Logger)
	if err != nil {
		return nil, err
	}
	if err := ready(s); err != nil {
		return nil, err
	}
	return &Server{s: s}, nil
}

func (o Options) server() (*server.Options, error) {
	if o.StoreDir == "" {
		return nil, errors.New("natsd: a store directory is required")
	}
	if err := os.MkdirAll(o.StoreDir, 0o750); err != nil {
		return nil, fmt.Errorf("natsd: store directory: %w", err)
	}
	opts := &server.Options{
		ServerName:         o.Name,
		Host:               o.Host,
		Port:               o.Port,
		JetStream:          true,
		StoreDir:           filepath.Clean(o.StoreDir),
		SyncAlways:         o.SyncAlways,
		JetStreamMaxStore:  o.MaxStore,
		JetStreamMaxMemory: o.MaxMemory,
		NoSigs:             true, // signals belong to the process around us
		NoLog:              o.Logger == nil,
	}
	switch {
	case o.Port == NoListener:
		opts.DontListen, opts.Port = true, 0
	case o.Port == 0:
		opts.Port = server.RANDOM_PORT
	}
	if opts.Host == "" {
		opts.Host = "127.0.0.1"
	}
	if o.Monitor > 0 {
		opts.HTTPHost, opts.HTTPPort = opts.Host, o.Monitor
	}
	if o.ClusterPort > 0 {
		opts.Cluster = server.ClusterOpts{Name: "hierarchy", Host: opts.Host, Port: o.ClusterPort}
		for _, r := range o.Routes {
			opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: r})
		}
	}
	return opts, nil
}

func start(opts *server.Options, logger *slog.Logger) (*server.Server, error) {
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("natsd: %w", err)
	}
	if logger != nil {
		s.SetLoggerV2(&log{logger}, false, false, false)
	}
	s.Start()
	return s, nil
}

func ready(s *server.Server) error {
	if !s.ReadyForConnections(readyTimeout) {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("natsd: the server was not ready within %s", readyTimeout)
	}
	return nil
}

// ClientURL is the address for clients of other processes; empty without a
// listener.
func (s *Server) ClientURL() string {
	if s.s.Addr() == nil {
		return ""
	}
	return s.s.ClientURL()
}

// Connect opens a connection that does not pass through a socket.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append([]nats.Option{nats.InProcessServer(s)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("natsd: connect: %w", err)
	}
	return nc, nil
}

// InProcessConn opens one end of a pipe to the server, which makes it a
// [nats.InProcessConnProvider].
func (s *Server) InProcessConn() (net.Conn, error) { return s.s.InProcessConn() }

// Stop shuts the server down gracefully and waits until its files are closed.
// Calling it twice is fine.
func (s *Server) Stop() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
}

// log hands the server's words to slog. The server formats its own messages, so
// they have no attributes.
type log struct{ l *slog.Logger }

func (l *log) at(level slog.Level, format string, v []any) {
	l.l.Log(context.Background(), level, fmt.Sprintf(format, v...))
}

// Noticef is the server's everyday chatter: of no interest unless debugging.
func (l *log) Noticef(format string, v ...any) { l.at(slog.LevelDebug, format, v) }

// Warnf logs a warning of the server.
func (l *log) Warnf(format string, v ...any) { l.at(slog.LevelWarn, format, v) }

// Errorf logs an error of the server.
func (l *log) Errorf(format string, v ...any) { l.at(slog.LevelError, format, v) }

// Fatalf logs an error after which the server is of no use. It does not end the
// process: that is for the caller to decide.
func (l *log) Fatalf(format string, v ...any) { l.at(slog.LevelError, format, v) }

// Debugf is never called: debugging is off.
func (l *log) Debugf(format string, v ...any) { l.at(slog.LevelDebug, format, v) }

// Tracef is never called: tracing is off.
func (l *log) Tracef(format string, v ...any) { l.at(slog.LevelDebug, format, v) }
