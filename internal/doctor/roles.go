package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// needed says what does not go on without a role.
var needed = map[string]struct {
	level Level
	what  string
}{
	"submitter": {Warning, "ops.api.submit does not answer; publishing to ops.submit.<target> goes on"},
	"resolver":  {Bad, "submissions are stored and nothing is decided"},
	"executor":  {Bad, "winners wait for an attempt"},
	"observer":  {Warning, "there are no metrics of the whole, and ops.api.status and its like do not answer"},
}

// ready counts the instances of a role that do their work.
func (f *Facts) ready(role string) (ready, all int) {
	for i := range f.Roles {
		if s := &f.Roles[i]; s.Role == role {
			all++
			if s.Ready {
				ready++
			}
		}
	}
	return ready, all
}

func roles(f *Facts, r *Report) {
	var fine []string
	for _, role := range RoleNames() {
		ready, all := f.ready(role)
		switch {
		case ready == 0 && all > 0:
			r.add("roles", needed[role].level, "look at its /readyz?verbose", "no %s of %d is ready: %s", role, all, needed[role].what)
		case ready == 0:
			r.add("roles", needed[role].level, "start one", "no %s answers: %s", role, needed[role].what)
		case ready < all:
			r.add("roles", Warning, "look at its /readyz?verbose", "%d of %d instances of %s are not ready", all-ready, all, role)
		default:
			fine = append(fine, counted(role, ready))
		}
	}
	if len(fine) > 0 {
		r.add("roles", OK, "", "ready: %s", strings.Join(fine, ", "))
	}
}

// pools asks whether somebody serves the work of every registered type.
func pools(f *Facts, r *Report) {
	n := len(r.Findings)
	for i := range f.Pools {
		p := &f.Pools[i]
		if p.Waiting > 0 || p.Unacked > 0 {
			continue
		}
		what := "winners of the built-in types"
		if len(p.Types) > 0 {
			what = "winners of " + strings.Join(p.Types, ", ")
		}
		if p.Pending > 0 {
			what += fmt.Sprintf(" (%d now)", p.Pending)
		}
		r.add("pools", Warning, "start an executor with --pool "+p.Name, "nobody asks for the work of the pool %s: %s wait for an attempt", p.Name, what)
	}
	if len(r.Findings) == n {
		r.add("pools", OK, "", "somebody asks for the work of every pool: %s", strings.Join(poolNames(f), ", "))
	}
}

func poolNames(f *Facts) (names []string) {
	for i := range f.Pools {
		names = append(names, f.Pools[i].Name)
	}
	return names
}

// versions asks whether everything is of one release.
func versions(f *Facts, r *Report) {
	of := map[string][]string{}
	for i := range f.Roles {
		s := &f.Roles[i]
		if !slices.Contains(of[s.Version], s.Role) {
			of[s.Version] = append(of[s.Version], s.Role)
		}
	}
	if f.Version != "" {
		of[f.Version] = append(of[f.Version], "this program")
	}
	servers := map[string][]string{f.Server.Version: {f.Server.Name}}
	for i := range f.Monitors {
		if m := &f.Monitors[i]; m.Error == "" && m.ID != f.Server.ID {
			servers[m.Version] = append(servers[m.Version], m.Server)
		}
	}
	for _, v := range []struct {
		what string
		of   map[string][]string
	}{{"programs", of}, {"servers", servers}} {
		if len(v.of) < 2 {
			continue
		}
		r.add("versions", Warning, "finish the upgrade: what an older one does not know, it refuses", "there are %s of several versions: %s", v.what, listed(v.of))
	}
	if len(of) < 2 && len(servers) < 2 {
		r.add("versions", OK, "", "one version of every program: %s", listed(of))
	}
}

// partitions asks whether somebody serves each of them, and tells its outputs.
func partitions(f *Facts, r *Report) {
	var orphans, untold []int
	for i := range f.Partitions {
		p := &f.Partitions[i]
		if !slices.Contains(f.Leases, p.Owner) {
			orphans = append(orphans, p.ID)
		}
		if p.Mark < p.Step && f.At.Add(-f.Skew).Sub(p.Stored) > staleMark {
			untold = append(untold, p.ID)
		}
	}
	switch {
	case len(f.Leases) == 0:
		r.add("partitions", Bad, "start a resolver", "no resolver is alive: nobody serves any partition")
	case len(orphans) > 0:
		r.add("partitions", Warning, "look again in some seconds: a take-over lasts as long as a lease", "nobody alive has written the last step of the partitions %v", orphans)
	default:
		r.add("partitions", OK, "", "all %d are served, by %s", len(f.Partitions), strings.Join(f.Leases, ", "))
	}
	if len(untold) > 0 {
		r.add("partitions", Warning, "`hierarchy rebuild --dry-run` says what the views lack", "what the partitions %v decided is not told since %s", untold, short(staleMark))
	}
	for i := range f.Partitions {
		if p := &f.Partitions[i]; p.Unread && f.At.Add(-f.Skew).Sub(p.Stored) > staleMark {
			r.add("partitions", Warning, "look into the log of "+p.Owner, "partition %d has submissions to read and has not moved since %s", p.ID, p.Stored.UTC().Format(time.RFC3339))
		}
	}
}

func observed(f *Facts, r *Report) {
	switch {
	case f.Observed == nil: // that there is no observer was said
	case f.Observed.Status == "healthy":
		r.add("health", OK, "", "the observer calls the system healthy")
	case f.Observed.Status == "failed":
		r.add("health", Bad, "", "the observer says: %s", strings.Join(f.Observed.Reasons, "; "))
	default:
		r.add("health", Warning, "", "the observer says: %s", strings.Join(f.Observed.Reasons, "; "))
	}
}
