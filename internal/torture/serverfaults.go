package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// recovery bounds how long a server may take to be well again.
const recovery = time.Minute

func (d *devil) anyServer(rng *rand.Rand) *slot { return d.site.servers[rng.IntN(len(d.site.servers))] }

// hurting does something that takes n servers away, and waits until they are back:
// until then a gap is not the roles' fault.
func (d *devil) hurting(ctx context.Context, n int, do func() error) error {
	d.down(n)
	defer d.up()
	if err := do(); err != nil {
		return err
	}
	// Whatever ctx says: the next fault, or the healing, needs a server that is
	// well.
	if err := d.healthy(context.WithoutCancel(ctx), recovery); err != nil {
		d.surprise("%v", err)
		return err
	}
	return nil
}

func drawServerKill(d *devil, rng *rand.Rand) (string, func(context.Context) error) {
	v, pause := d.anyServer(rng), drawTime(rng, 0, 2*time.Second)
	return fmt.Sprintf("%s, back after %.1fs", v.base, pause.Seconds()), func(ctx context.Context) error {
		return d.hurting(ctx, 1, func() error {
			v.park(syscall.SIGKILL)
			rest(ctx, pause)
			return v.open()
		})
	}
}

func drawServerTerm(d *devil, rng *rand.Rand) (string, func(context.Context) error) {
	v := d.anyServer(rng)
	return v.base, func(ctx context.Context) error {
		return d.hurting(ctx, 1, func() error {
			v.park(syscall.SIGTERM)
			return v.open()
		})
	}
}

func drawServerStop(d *devil, rng *rand.Rand) (string, func(context.Context) error) {
	v, pause := d.anyServer(rng), drawTime(rng, 500*time.Millisecond, 8*time.Second)
	return fmt.Sprintf("%s for %.1fs", v.base, pause.Seconds()), func(ctx context.Context) error {
		return d.hurting(ctx, 1, func() error {
			p := v.current()
			p.signal(syscall.SIGSTOP)
			rest(ctx, pause)
			p.signal(syscall.SIGCONT)
			return nil
		})
	}
}

// killServers kills all servers at once and starts them again.
func (d *devil) killServers(ctx context.Context) error {
	return d.hurting(ctx, d.Nodes, func() error {
		for _, v := range d.site.servers {
			v.mu.Lock()
			v.parked = true
			v.mu.Unlock()
			v.end(syscall.SIGKILL)
		}
		for _, v := range d.site.servers {
			v.loop.Wait()
			if err := v.open(); err != nil {
				return err
			}
		}
		return nil
	})
}

func drawServersKill(d *devil, _ *rand.Rand) (string, func(context.Context) error) {
	return "all servers at once", d.killServers
}

func drawServersRolling(d *devil, rng *rand.Rand) (string, func(context.Context) error) {
	order := rng.Perm(len(d.site.servers))
	return "all servers, one after another", func(ctx context.Context) error {
		for _, i := range order {
			v := d.site.servers[i]
			err := d.hurting(ctx, 1, func() error {
				v.park(syscall.SIGTERM)
				return v.open()
			})
			if err != nil || ctx.Err() != nil {
				return err
			}
		}
		return nil
	}
}

func drawEverything(d *devil, _ *rand.Rand) (string, func(context.Context) error) {
	return "all roles and servers at once", func(ctx context.Context) error {
		for _, v := range d.roles {
			v.end(syscall.SIGKILL)
		}
		return d.killServers(ctx)
	}
}

// heal undoes every fault: nothing is armed, nobody is stopped, everybody runs.
func (s *site) heal(ctx context.Context) error {
	for _, v := range s.servers {
		v.current().signal(syscall.SIGCONT)
	}
	if err := s.healthy(ctx, recovery); err != nil {
		return err
	}
	s.up()
	s.mu.Lock()
	roles := s.roles
	s.mu.Unlock()
	for _, v := range roles {
		// Failpoints may still wait for their moment: start afresh.
		v.arm("")
		p := v.end(syscall.SIGKILL)
		p.signal(syscall.SIGCONT)
	}
	return nil
}
