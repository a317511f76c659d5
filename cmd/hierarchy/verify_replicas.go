package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

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
		return unchecked(noSuchStream(ctx, b, o.Streams, err))
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
	case !compared(r):
		return withHint(exitWith(exitUnchecked, "nothing was compared: no stream has two copies"),
			"`hierarchy setup --replicas 3` keeps three copies, on a cluster of three servers or more")
	}
	return nil
}

// compared reports whether there was anything to compare: a stream with two
// copies.
func compared(r *verify.Replicas) bool {
	return slices.ContainsFunc(r.Streams, func(s verify.StreamCopies) bool { return len(s.Copies) > 1 })
}

// noSuchStream turns err into one of usage if the server has no stream of a given
// name. It asks only after the comparison has failed: until then nobody has to know.
func noSuchStream(ctx context.Context, b *bus.Bus, given []string, err error) error {
	if len(given) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var all, ours []string
	list := b.JetStream().ListStreams(ctx) // what the comparison may ask, too
	for info := range list.Info() {
		name := info.Config.Name
		all = append(all, name)
		if strings.HasPrefix(name, "OPS_") || strings.HasPrefix(name, "KV_OPS_") || strings.HasPrefix(name, "OBJ_OPS_") {
			ours = append(ours, name)
		}
	}
	if list.Err() != nil {
		return err
	}
	slices.Sort(ours)
	for _, name := range given {
		if !slices.Contains(all, name) {
			return usagef("--stream: there is no stream %s; there are %s", name, strings.Join(ours, ", "))
		}
	}
	return err
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
