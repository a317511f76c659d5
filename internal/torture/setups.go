package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
)

// layout is what a system of a torture is set up with.
func layout(replicas, partitions int) bus.Layout {
	l := bus.DefaultLayout()
	l.Replicas, l.Partitions = replicas, partitions
	l.MaxIntakeBytes = 64 << 20 // each server reserves what the limits add up to
	return l
}

// setups kills the setup of a server of its own in the middle, over and over: the
// next one has to find its way, and in the end nothing may be missing.
func (m *matrix) setups(ctx context.Context) {
	m.mu.Lock()
	n := len(m.todo[partSetup])
	m.mu.Unlock()
	if n == 0 {
		return
	}
	if err := m.setupLane(ctx); err != nil && ctx.Err() == nil {
		m.surprise("setup: %v", err)
	}
}

func (m *matrix) setupLane(ctx context.Context) error {
	ports, err := natsd.FreePorts(2)
	if err != nil {
		return err
	}
	args := []string{
		partServer, "--name", "scratch", "--store", filepath.Join(m.dir, "scratch"),
		"--port", fmt.Sprint(ports[0]), "--monitor", fmt.Sprint(ports[1]),
	}
	server := &slot{site: m.site, role: partServer, base: "scratch", monitor: ports[1], args: func(string) []string { return args }}
	if err := server.start(); err != nil {
		return err
	}
	defer server.close()
	patient, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	if err := server.healthy(patient); err != nil {
		return err
	}
	url := fmt.Sprintf("nats://127.0.0.1:%d", ports[0])
	nc, err := nats.Connect(url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	rng := source(m.Seed, "setup")
	for n := 1; ctx.Err() == nil; n++ {
		c := m.take(partSetup)
		if c == nil {
			return nil
		}
		v := victim{matrix: m, cell: c, rng: rng, name: fmt.Sprintf("setup-%d", n), at: 1 + rng.IntN(len(streams)+1)}
		m.count(c, v.drive(ctx, []string{partSetup, "--server", url, "--partitions", "4"}))
		if err := m.complete(ctx, nc, url, n); err != nil {
			return err
		}
	}
	return nil
}

// complete has a setup finish what another one has begun, checks the result, and
// takes everything away again.
func (m *matrix) complete(ctx context.Context, nc *nats.Conn, url string, n int) error {
	p, err := m.spawn(fmt.Sprintf("setup-%d-again", n), []string{partSetup, "--server", url, "--partitions", "4"}, "")
	if err != nil {
		return err
	}
	<-p.done
	_ = p.hold.Close()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("a setup after one that died exits with %d: %s", code, p.tail.last())
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	changes, err := bus.Diff(ctx, nc, layout(1, 4))
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.Action != bus.ActionUnchanged {
			return fmt.Errorf("after a setup that died and another one, %s would be %s: %s", c.Object, c.Action, c.Detail)
		}
	}
	return dropStreams(ctx, nc)
}

func dropStreams(ctx context.Context, nc *nats.Conn) error {
	r, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.NAMES", nil)
	if err != nil {
		return fmt.Errorf("names of the streams: %w", err)
	}
	var names struct {
		Streams []string `json:"streams"`
	}
	if err := json.Unmarshal(r.Data, &names); err != nil {
		return fmt.Errorf("names of the streams: %w", err)
	}
	for _, s := range names.Streams {
		if _, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.DELETE."+s, nil); err != nil {
			return fmt.Errorf("delete %s: %w", s, err)
		}
	}
	return nil
}
