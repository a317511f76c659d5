package main

import (
	"context"
	"fmt"
	"io"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

// compare compares the copies of all servers.
func (a *app) compare(ctx context.Context, b *bus.Bus, o verify.ReplicaOptions) error {
	bar := newProgress(a.errs)
	o.Progress = func(read, all uint64) {
		bar.show(float64(read)/float64(max(all, 1)), fmt.Sprintf("message %d of %d in all copies", read, all))
	}
	r, err := verify.CompareReplicas(ctx, b, o)
	bar.end()
	if err != nil {
		return unchecked(err)
	}
	var names []string
	for i := range r.Divergences {
		names = append(names, r.Divergences[i].Stream)
	}
	if err := a.print(r, func(w io.Writer) { showReplicas(w, r) }, names...); err != nil {
		return err
	}
	switch unread := r.Unread(); {
	case !r.OK():
		return exitWith(exitViolated, "copies differ in %s", plural(r.Total, "range"))
	case len(unread) > 0:
		return exitWith(exitUnchecked, "not compared: %s", unread[0])
	}
	return nil
}

// digestShown is how much of a digest tells two copies apart for a person.
const digestShown = 12

func showReplicas(w io.Writer, r *verify.Replicas) {
	g := grid{header: []string{"STREAM", "SERVER", "ROLE", "FIRST", "LAST", "MESSAGES", "DIGEST"}, right: []int{3, 4, 5}}
	single := 0
	for i := range r.Streams {
		s := &r.Streams[i]
		if len(s.Copies) < 2 {
			single++
		}
		for _, c := range s.Copies {
			role, digest := "follower", c.Digest[:min(len(c.Digest), digestShown)]
			if c.Leader {
				role = "leader"
			}
			if c.Unread != "" {
				digest = "not read"
			}
			g.add(s.Stream, c.Node, role, number(c.First), number(c.Last), number(c.Messages), digest)
		}
	}
	g.write(w)
	if single > 0 {
		fmt.Fprintf(w, "\n%s in one copy: there is nothing to compare it with\n", plural(single, "stream"))
	}
	for _, why := range r.Unread() {
		fmt.Fprintf(w, "\n! not compared: %s\n", why)
	}
	for i := range r.Divergences {
		d := &r.Divergences[i]
		if i == maxShown {
			fmt.Fprintf(w, "\n  … and %d more\n", r.Total-maxShown)
			break
		}
		fmt.Fprintf(w, "\n✗ %s\n  → %s\n", d, d.Repair)
	}
	if r.OK() && len(r.Unread()) == 0 && single < len(r.Streams) {
		fmt.Fprintln(w, "\n✓ all copies are the same")
	}
}
