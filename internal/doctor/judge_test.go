package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/service"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// good are the facts of a system of which nothing bad can be said: three servers
// that sync always, two of each role that others depend on.
func good() *Facts {
	f := &Facts{
		At: noon, Version: "1.0.0", Layout: bus.DefaultLayout(), Leases: []string{"r1", "r2"},
		Server:  Server{Name: "n1", ID: "N1", Version: "2.15.2", MaxPayload: 1 << 20, Loopback: true},
		Account: Account{MaxStore: -1, MaxStreams: -1, MaxConsumer: -1},
		Changes: []bus.Change{{Object: bus.StreamJournal, Action: bus.ActionUnchanged}},
		Pools:   []Pool{{Name: "default", Known: true, Waiting: 2}, {Name: "gpu", Types: []string{"resize"}, Known: true, Unacked: 1}},
		Policy:  Policy{Revision: 3}, Observed: &Observed{Status: "healthy"},
	}
	for _, name := range []string{bus.StreamIntake, bus.StreamJournal} {
		f.Streams = append(f.Streams, Stream{Name: name, Replicas: 3, File: true, FirstSeq: 1, Clustered: true, Leader: "n1", Followers: 2})
	}
	for _, n := range []string{"N1", "N2", "N3"} {
		f.Monitors = append(f.Monitors, Monitor{URL: "http://" + n, Server: strings.ToLower(n), ID: n, Version: "2.15.2", SyncAlways: true})
	}
	for _, role := range append(RoleNames(), RoleNames()...) {
		f.Roles = append(f.Roles, service.Status{Role: role, Version: "1.0.0", Ready: true})
	}
	for id := range 2 {
		f.Partitions = append(f.Partitions, Partition{ID: id, Owner: f.Leases[id], Step: 9, Mark: 9, At: noon, Stored: noon.Add(time.Millisecond)})
	}
	return f
}

func TestNothingIsWrong(t *testing.T) {
	r := Judge(good())
	if r.Level != OK || len(r.Promises) != 8 {
		t.Errorf("%+v", r)
	}
	for i, p := range r.Promises {
		if p.Number != i+1 {
			t.Errorf("promise %d has number %d", i+1, p.Number)
		}
	}
}

// TestJudge spoils one fact each and demands that it is found, by which check,
// how bad it is, and which promises suffer from it.
func TestJudge(t *testing.T) {
	journal := func(f *Facts) *Stream { return f.stream(bus.StreamJournal) }
	for name, c := range map[string]struct {
		spoil    func(*Facts)
		check    string
		level    Level
		says     string
		promises string // numbers of those that do not hold without a limit
	}{
		"one copy": {func(f *Facts) {
			for i := range f.Streams {
				f.Streams[i].Replicas = 1
			}
		}, "streams", OK, "in one copy", "1"},
		"nobody tells about syncs": {func(f *Facts) { f.Monitors = nil }, "sync", Unknown, "every two minutes", "1"},
		"one of three is told":     {func(f *Facts) { f.Monitors = f.Monitors[:1] }, "sync", OK, "every write", "1"},
		"a server that syncs late": {func(f *Facts) {
			f.Monitors[1].SyncAlways, f.Monitors[1].SyncInterval = false, 2*time.Minute
		}, "sync", Warning, "n2 syncs every 2m0s", "1"},
		"nobody asked two of three": {func(f *Facts) {
			f.Monitors = f.Monitors[:1]
			f.stream(bus.StreamJournal).Servers = []string{"n1", "n2", "n3"}
		}, "sync", Unknown, "nobody asked n2, n3", "1"},
		"a server that calls itself unhealthy": {func(f *Facts) { f.Monitors[2].Unhealthy = "no space left" }, "servers", Bad, "n3 calls itself unhealthy: no space left", ""},
		"a server's clock":                     {func(f *Facts) { f.Monitors[1].Skew = time.Hour }, "clock", Warning, "the server n2 is ahead of this machine by 1h", ""},
		"a server's clock behind":              {func(f *Facts) { f.Monitors[1].Skew = -time.Hour }, "clock", Warning, "the server n2 is behind this machine", ""},
		"an old server":                        {func(f *Facts) { f.Server.Version = "2.14.9" }, "server", Warning, "even with sync_interval: always", ""},
		"a monitor that is silent":             {func(f *Facts) { f.Monitors[2].Error = "refused" }, "sync", Unknown, "refused", "1"},
		"a journal with limits":                {func(f *Facts) { journal(f).MaxAge = time.Hour }, "limits", Bad, "history", "5 8"},
		"a journal that was purged":            {func(f *Facts) { journal(f).FirstSeq = 100 }, "limits", OK, "", "5 8"},
		"a journal in memory":                  {func(f *Facts) { journal(f).File = false }, "streams", Bad, "in memory", "1"},
		"an asynchronous journal":              {func(f *Facts) { journal(f).Async = true }, "streams", Bad, "before it writes", "1 2 3 4 5 8"},
		"drift": {func(f *Facts) {
			f.Changes[0] = bus.Change{Object: "OPS_JOURNAL", Action: bus.ActionDrift, Detail: "retention"}
		}, "layout", Bad, "retention", "1 2 3 4 5 8"},
		"a setting that may be mended": {func(f *Facts) {
			f.Changes[0] = bus.Change{Object: "OPS_EVENTS", Action: bus.ActionUpdated, Detail: "max_age"}
		}, "layout", Warning, "max_age", ""},
		"no leader":          {func(f *Facts) { journal(f).Leader = "" }, "streams", Bad, "no leader", ""},
		"a follower is away": {func(f *Facts) { journal(f).Missing = 1 }, "streams", Warning, "1 of 2", ""},
		"the majority is":    {func(f *Facts) { journal(f).Missing = 2 }, "streams", Bad, "2 of 2", ""},
		"no resolver": {func(f *Facts) {
			f.Leases = nil
			f.drop("resolver")
		}, "partitions", Bad, "no resolver", "6"},
		"one resolver":                   {func(f *Facts) { f.Leases = f.Leases[:1] }, "partitions", Warning, "[1]", "6"},
		"no executor":                    {func(f *Facts) { f.drop("executor") }, "roles", Bad, "no executor answers", "6"},
		"no observer":                    {func(f *Facts) { f.drop("observer"); f.Observed = nil }, "roles", Warning, "no observer", ""},
		"an executor that is not ready":  {func(f *Facts) { f.Roles[2].Ready = false }, "roles", Warning, "1 of 2 instances of executor", "6"},
		"two releases":                   {func(f *Facts) { f.Roles[0].Version = "0.9.0" }, "versions", Warning, "0.9.0 (submitter)", ""},
		"two servers":                    {func(f *Facts) { f.Monitors[1].Version = "2.14.0" }, "versions", Warning, "2.14.0 (n2)", ""},
		"our clock":                      {func(f *Facts) { f.Skew = -3 * time.Second }, "clock", Warning, "this machine is 3s behind", ""},
		"a resolver's clock":             {func(f *Facts) { f.Partitions[1].At = noon.Add(2 * time.Second) }, "clock", Warning, "r2 is 2s ahead", ""},
		"an account that is full":        {func(f *Facts) { f.Account.Store, f.Account.MaxStore = 95, 100 }, "account", Warning, "of 0 KiB", ""},
		"an account that nobody may ask": {func(f *Facts) { f.AccountError = "denied" }, "account", Unknown, "denied", ""},
		"small messages":                 {func(f *Facts) { f.Server.MaxPayload = 64 << 10 }, "server", Bad, "1 MiB", ""},
		"an open network":                {func(f *Facts) { f.Server.Loopback = false }, "server", Warning, "on the way", ""},
		"a full intake": {func(f *Facts) {
			f.Streams[0].Messages, f.Streams[0].MaxMsgs = 99, 100
		}, "limits", Warning, "99 % full", ""},
		"a full disk":       {func(f *Facts) { f.Monitors[0].Store, f.Monitors[0].MaxStore = 99, 100 }, "limits", Warning, "n1 has used", ""},
		"an invalid policy": {func(f *Facts) { f.Policy.Error = "types.x" }, "policy", Bad, "revision 3 is not valid: types.x", ""},
		"a pool that nobody serves": {func(f *Facts) {
			f.Pools[1].Unacked, f.Pools[1].Pending = 0, 3
		}, "pools", Warning, "the pool gpu: winners of resize (3 now) wait", ""},
		"untold outputs": {func(f *Facts) {
			f.Partitions[0].Mark, f.Partitions[0].Stored = 3, noon.Add(-time.Minute)
			f.Partitions[0].At = f.Partitions[0].Stored
		}, "partitions", Warning, "partitions [0] decided is not told", ""},
		"a partition that stands still": {func(f *Facts) {
			f.Partitions[0].Unread, f.Partitions[0].Stored = true, noon.Add(-time.Minute)
			f.Partitions[0].At = f.Partitions[0].Stored
		}, "partitions", Warning, "partition 0 has submissions", ""},
		"an observer that complains": {func(f *Facts) {
			f.Observed = &Observed{Status: "degraded", Reasons: []string{"too many"}}
		}, "health", Warning, "too many", ""},
	} {
		f := good()
		c.spoil(f)
		r := Judge(f)
		found := false
		for _, x := range r.Findings {
			found = found || x.Check == c.check && x.Level == c.level && strings.Contains(x.Text, c.says)
			if x.Level == Bad && x.Hint == "" && x.Check != "health" {
				t.Errorf("%s: no hint what to do about %q", name, x.Text)
			}
		}
		if !found {
			t.Errorf("%s: %s %s %q is not among %+v", name, c.check, c.level, c.says, r.Findings)
		}
		var limited []string
		for _, p := range r.Promises {
			if p.Level != OK {
				limited = append(limited, string(rune('0'+p.Number)))
			}
		}
		if got := strings.Join(limited, " "); got != c.promises {
			t.Errorf("%s: the promises %q are limited, want %q", name, got, c.promises)
		}
		if worse(r.Level, c.level) != r.Level {
			t.Errorf("%s: the level of all is %s", name, r.Level)
		}
	}
}

// drop takes all instances of a role away.
func (f *Facts) drop(role string) {
	var left []service.Status
	for _, s := range f.Roles {
		if s.Role != role {
			left = append(left, s)
		}
	}
	f.Roles = left
}

func TestOlder(t *testing.T) {
	for _, c := range []struct {
		version string
		want    bool
	}{
		{"2.14.9", true},
		{"2.15.0", false},
		{"2.15.2", false},
		{"2.100.0", false},
		{"3.0.0", false},
		{"1.99.99", true},
		{"2.14.9-RC.1", true},
		{"2.16.0-dev", false},
		{"unknown", false},
		{"", false},
	} {
		if older(c.version, "2.15.0") != c.want {
			t.Errorf("%q", c.version)
		}
	}
}
