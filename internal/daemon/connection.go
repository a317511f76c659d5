package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"
	"github.com/synadia-io/orbit.go/natscontext"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// Connection says which server to talk to and as whom. The flags and variables
// are those of the nats program, so that what works there works here. There is
// no flag for a secret: a command line can be read by everybody on the machine.
type Connection struct {
	Server      string // URLs, separated by commas
	Context     string // name of a NATS context, or the path of one
	User        string
	Creds       string // path
	NKey        string // path of a seed
	Cert, Key   string // paths
	CA          string // path
	InboxPrefix string // of replies, where the user may only subscribe below it
}

// Flags adds the connection's flags, with the environment as their defaults.
func (c *Connection) Flags(f *pflag.FlagSet) {
	f.StringVarP(&c.Server, "server", "s", os.Getenv("NATS_URL"), "URLs of the NATS servers (NATS_URL; default "+nats.DefaultURL+")")
	f.StringVar(&c.Context, "context", os.Getenv("NATS_CONTEXT"), "NATS context to use (NATS_CONTEXT)")
	f.StringVar(&c.User, "user", os.Getenv("NATS_USER"), "user; the password comes from NATS_PASSWORD (NATS_USER)")
	f.StringVar(&c.Creds, "creds", os.Getenv("NATS_CREDS"), "file with credentials (NATS_CREDS)")
	f.StringVar(&c.NKey, "nkey", os.Getenv("NATS_NKEY"), "file with an nkey seed (NATS_NKEY)")
	f.StringVar(&c.Cert, "tlscert", os.Getenv("NATS_CERT"), "file with a TLS certificate (NATS_CERT)")
	f.StringVar(&c.Key, "tlskey", os.Getenv("NATS_KEY"), "file with its key (NATS_KEY)")
	f.StringVar(&c.CA, "tlsca", os.Getenv("NATS_CA"), "file with the authority that signed the server's certificate (NATS_CA)")
	f.StringVar(&c.InboxPrefix, "inbox-prefix", os.Getenv("OPS_INBOX_PREFIX"), "prefix of reply subjects, for users with few rights (OPS_INBOX_PREFIX)")
}

// Given reports whether flags or environment say where to connect to.
func (c *Connection) Given() bool { return c.Server != "" || c.Context != "" }

// Connect connects with the given options on top of the connection's own.
func (c *Connection) Connect(opts ...nats.Option) (*nats.Conn, error) {
	own, err := c.options()
	if err != nil {
		return nil, Exit(ExitUsage, err)
	}
	opts = append(own, opts...)
	if c.Context != "" && c.Server == "" {
		nc, _, err := natscontext.Connect(c.Context, opts...)
		if err != nil {
			return nil, fmt.Errorf("context %s: %w", c.Context, err)
		}
		return nc, nil
	}
	return nats.Connect(cmp.Or(c.Server, nats.DefaultURL), opts...)
}

func (c *Connection) options() ([]nats.Option, error) {
	var o []nats.Option
	if c.User != "" {
		o = append(o, nats.UserInfo(c.User, os.Getenv("NATS_PASSWORD")))
	}
	if c.Creds != "" {
		o = append(o, nats.UserCredentials(c.Creds))
	}
	if c.NKey != "" {
		k, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("nkey: %w", err)
		}
		o = append(o, k)
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("a TLS certificate needs its key, and a key its certificate")
	}
	if c.Cert != "" {
		o = append(o, nats.ClientCert(c.Cert, c.Key))
	}
	if c.CA != "" {
		o = append(o, nats.RootCAs(c.CA))
	}
	if c.InboxPrefix != "" {
		o = append(o, nats.CustomInboxPrefix(c.InboxPrefix))
	}
	return o, nil
}

// Timing of a connection that never gives up. A silent server is found out
// within three pings.
const (
	dialTimeout   = 3 * time.Second
	reconnectWait = 250 * time.Millisecond
	pingInterval  = 5 * time.Second
	openTimeout   = 5 * time.Second
	openPause     = 500 * time.Millisecond
)

// link is a connection that reconnects for ever, and news about it.
type link struct {
	*nats.Conn
	closed <-chan struct{} // it is over for good
}

// dial connects for as long as ctx lasts, whatever the order in which the
// processes are started. It gives up when the server refuses the user twice.
func (c *Connection) dial(ctx context.Context, name string, log *slog.Logger) (*link, error) {
	up, closed := make(chan struct{}), make(chan struct{})
	isUp := sync.OnceFunc(func() { close(up) })
	isClosed := sync.OnceFunc(func() { close(closed) })
	nc, err := c.Connect(
		nats.Name(name), nats.Timeout(dialTimeout), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(*nats.Conn) { isUp() }),
		nats.ReconnectHandler(func(nc *nats.Conn) { isUp(); log.Info("connected to NATS", "url", nc.ConnectedUrlRedacted()) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS lost", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			log.Error("NATS", "subject", subject, "error", err)
		}),
		nats.ClosedHandler(func(*nats.Conn) { isClosed() }),
	)
	if err != nil {
		return nil, err
	}
	if !nc.IsConnected() {
		log.Warn("NATS is not to be reached yet; trying on")
	}
	select {
	case <-up:
		return &link{nc, closed}, nil
	case <-closed:
		return nil, closeReason(nc)
	case <-ctx.Done():
		err := nc.LastError()
		nc.Close()
		return nil, fmt.Errorf("%w: %w", errors.Join(err, nats.ErrNoServers), context.Cause(ctx))
	}
}

// closeReason says why a connection ended for good.
func closeReason(nc *nats.Conn) error {
	if err := nc.LastError(); err != nil {
		return fmt.Errorf("the connection to NATS is closed: %w", err)
	}
	return nats.ErrConnectionClosed
}

// openBus waits until the server has been set up.
func openBus(ctx context.Context, l *link, log *slog.Logger) (*bus.Bus, error) {
	last := ""
	for {
		try, cancel := context.WithTimeout(ctx, openTimeout)
		b, err := bus.Open(try, l.Conn)
		cancel()
		if err == nil {
			return b, nil
		}
		if text := err.Error(); text != last && ctx.Err() == nil {
			last = text
			if errors.Is(err, bus.ErrNotSetUp) {
				log.Warn("the server is not set up yet; waiting for `hierarchy setup`")
			} else {
				log.Warn("the streams cannot be opened yet; trying on", "error", err)
			}
		}
		select {
		case <-time.After(openPause):
		case <-l.closed:
			return nil, closeReason(l.Conn)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}
