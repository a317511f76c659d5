package bus_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
)

// faulty is a line to a server that can lose single messages and go down. Give
// it to one connection, so that only that one suffers.
type faulty struct {
	to nats.InProcessConnProvider
	// lose sees each message that passes, in either direction, and says whether
	// it gets lost. It may take its time.
	lose func(subject, reply string) bool

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

// connect opens a connection over the line that comes back when it can.
func (f *faulty) connect(t *testing.T, opts ...nats.Option) *nats.Conn {
	t.Helper()
	o := append([]nats.Option{nats.InProcessServer(f), nats.MaxReconnects(-1), nats.ReconnectWait(20e6), nats.ReconnectJitter(0, 0)}, opts...)
	nc, err := nats.Connect("", o...)
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// cut breaks the line. With stay it cannot be set up again until mended.
func (f *faulty) cut(stay bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = stay
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
}

func (f *faulty) mend() {
	f.mu.Lock()
	f.down = false
	f.mu.Unlock()
}

// InProcessConn is called by the client for each attempt to connect.
func (f *faulty) InProcessConn() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errors.New("the line is down")
	}
	server, err := f.to.InProcessConn()
	if err != nil {
		return nil, err
	}
	client, inner := net.Pipe()
	f.conns = append(f.conns, server, inner)
	go f.pump(inner, server)
	go f.pump(server, inner)
	return client, nil
}

// pump copies frames of the protocol until either end closes.
func (f *faulty) pump(to, from net.Conn) {
	defer to.Close()   //nolint:errcheck // that is the signal
	defer from.Close() //nolint:errcheck // likewise
	r := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		frame := []byte(line)
		fields := strings.Fields(line)
		subject, reply, size := message(fields)
		if size >= 0 {
			body := make([]byte, size+2)
			if _, err := io.ReadFull(r, body); err != nil {
				return
			}
			if f.lose != nil && f.lose(subject, reply) {
				continue
			}
			frame = append(frame, body...)
		}
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

// message reads the first line of a frame; size is -1 when it carries none.
func message(fields []string) (subject, reply string, size int) {
	least := map[string]int{"PUB": 3, "HPUB": 4, "MSG": 4, "HMSG": 5}
	if len(fields) == 0 || least[strings.ToUpper(fields[0])] == 0 {
		return "", "", -1
	}
	n := least[strings.ToUpper(fields[0])]
	if len(fields) > n {
		reply = fields[n-1-strings.Count(strings.ToUpper(fields[0]), "H")]
	}
	size, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		return "", "", -1
	}
	return fields[1], reply, size
}
