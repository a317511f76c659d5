package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// others is the light load, as its own process sees it: those who submit on other
// entities have no share in the work of whoever overloads one of them, nor in the
// collections of its garbage.
type others struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// phase is what the others saw for a while.
type phase struct {
	All, Beside, Elsewhere, Edge latency
	Account                      account
}

// startOthers runs this program once more, as the others.
func startOthers(ctx context.Context, url string, o *options) (*others, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-as-others", url, "-others", strconv.Itoa(o.others), "-light", fmt.Sprint(o.light), "-clients", strconv.Itoa(o.clients))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &others{cmd: cmd, in: in, out: json.NewDecoder(out)}, cmd.Start()
}

// run has them submit for a while, and wait for the ends.
func (t *others) run(d time.Duration) (p phase, err error) {
	if _, err = fmt.Fprintln(t.in, d); err == nil {
		err = t.out.Decode(&p)
	}
	return p, err
}

func (t *others) stop() error { return errors.Join(t.in.Close(), t.cmd.Wait()) }

// asOthers is the other process: it makes its entities, and for each duration that
// it is told it submits, and says what it saw.
func asOthers(ctx context.Context, url string, o *options, in io.Reader, out io.Writer) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	names := make([]string, o.others)
	for i := range names {
		names[i] = fmt.Sprintf("other-%d", i)
	}
	l, err := newLoad(nc, names, &options{conflict: "queue", clients: o.clients})
	if err != nil {
		return err
	}
	if err := l.create(ctx); err != nil {
		return err
	}
	beside := func(target string) bool {
		return bus.PartitionOf(target, partitions) == bus.PartitionOf("hot", partitions)
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		d, err := time.ParseDuration(lines.Text())
		if err != nil {
			return err
		}
		if err := errors.Join(l.run(ctx, o.light, d), l.drain(ctx)); err != nil {
			return err
		}
		p := phase{Account: l.account()}
		p.All, p.Beside, p.Elsewhere, p.Edge = l.latencies(beside)
		if err := json.NewEncoder(out).Encode(p); err != nil {
			return err
		}
		l.reset()
	}
	return nil
}

// partitions is how many the program sets up.
var partitions = bus.DefaultLayout().Partitions
