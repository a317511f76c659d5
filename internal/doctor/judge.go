package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// ReportType is the value of "type" in a [Report].
const ReportType = "ops.v1.doctor"

// Level is how a finding or a promise stands.
type Level string

// The levels, best first. Unknown: nobody here can tell.
const (
	OK      Level = "ok"
	Unknown Level = "unknown"
	Warning Level = "warning"
	Bad     Level = "bad"
)

// Finding is what one check found.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"` // what to do about it
}

// Promise is one of the promises of contract §8 as it stands on this system.
type Promise struct {
	Number  int    `json:"number"`
	Promise string `json:"promise"`
	Level   Level  `json:"level"` // OK: it holds; Warning: with a limit; Bad: it does not
	Text    string `json:"text"`
}

// Report is the judgement.
type Report struct {
	Type     string    `json:"type"` // ReportType
	At       time.Time `json:"at"`
	Level    Level     `json:"level"` // the worst of both lists
	Findings []Finding `json:"findings"`
	Promises []Promise `json:"promises"`
}

// Thresholds of the checks.
const (
	skewWarning  = 500 * time.Millisecond
	staleMark    = 10 * time.Second // outputs that are not told for so long
	fullWarning  = 0.9              // of a limit
	leastPayload = 1 << 20          // bytes: a large step or bulk needs it
	leastServer  = "2.15.0"         // older ones have holes in sync_interval: always
)

// Judge says what the facts mean. It is a function of them.
func Judge(f *Facts) *Report {
	r := &Report{Type: ReportType, At: f.At, Level: OK}
	for _, check := range []func(*Facts, *Report){
		server, clocks, account, layout, streams, capacity, syncing, healths, policy, roles, pools, versions, partitions, observed,
	} {
		check(f, r)
	}
	r.Promises = promises(f)
	for i := range r.Findings {
		r.Level = worse(r.Level, r.Findings[i].Level)
	}
	for i := range r.Promises {
		r.Level = worse(r.Level, r.Promises[i].Level)
	}
	return r
}

func worse(a, b Level) Level {
	order := []Level{OK, Unknown, Warning, Bad}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

func (r *Report) add(check string, l Level, hint, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{check, l, fmt.Sprintf(format, args...), hint})
}

func server(f *Facts, r *Report) {
	s := &f.Server
	where := "at " + s.URL
	if s.Name != s.ID { // it has a name of its own
		where = s.Name + " " + where
	}
	if s.Cluster != "" {
		where += " of the cluster " + s.Cluster
	}
	level, hint, more := OK, "", ""
	switch {
	case s.MaxPayload < leastPayload:
		level, hint = Bad, "set max_payload to 1MB or more in the configuration of nats-server"
		more = "; the journal needs 1 MiB"
	case older(s.Version, leastServer):
		level, hint = Warning, "upgrade nats-server to "+leastServer+" or later"
		more = "; before " + leastServer + " a power cut could lose what was acknowledged, even with sync_interval: always"
	case !s.TLS && !s.Loopback:
		level, hint = Warning, "configure tls in nats-server, unless the network is yours alone"
		more = "; what is sent can be read on the way"
	}
	r.add("server", level, hint, "nats-server %s, %s, round trip %s, messages up to %d KiB%s",
		s.Version, where, short(s.RTT), s.MaxPayload>>10, more)
}

// older reports whether a version is before another one. What cannot be read is
// not.
func older(version, least string) bool {
	var a, b [3]int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &a[0], &a[1], &a[2]); err != nil {
		return false
	}
	if _, err := fmt.Sscanf(least, "%d.%d.%d", &b[0], &b[1], &b[2]); err != nil {
		return false
	}
	return slices.Compare(a[:], b[:]) < 0
}

func clocks(f *Facts, r *Report) {
	const hint = "set the clocks; deadlines and windows shift by as much, and nothing else depends on them"
	if d := max(f.Skew.Abs()-f.SkewError, 0); d > skewWarning {
		r.add("clock", Warning, hint, "this machine is %s %s the server", short(f.Skew.Abs()), aheadOf(f.Skew))
	} else {
		r.add("clock", OK, "", "this machine and the server agree within %s", short(f.Skew.Abs()+f.SkewError))
	}
	for i := range f.Monitors {
		m := &f.Monitors[i]
		if d := max(m.Skew.Abs()-m.SkewError, 0); m.Error == "" && d > skewWarning {
			r.add("clock", Warning, hint, "the server %s is %s this machine by %s", m.name(), aheadOf(m.Skew), short(m.Skew.Abs()))
		}
	}
	// A step is stored after its instant, so an owner that is ahead shows at
	// once, and one that is behind looks like a slow commit.
	far := map[string]time.Duration{}
	for i := range f.Partitions {
		if p := &f.Partitions[i]; p.Owner != "" {
			if d := p.At.Sub(p.Stored); d.Abs() > far[p.Owner].Abs() {
				far[p.Owner] = d
			}
		}
	}
	for _, name := range f.Leases {
		if d := far[name]; d.Abs() > skewWarning {
			r.add("clock", Warning, hint, "%s is %s %s the server", name, short(d.Abs()), aheadOf(d))
		}
	}
}

func aheadOf(d time.Duration) string {
	if d > 0 {
		return "ahead of"
	}
	return "behind"
}

func account(f *Facts, r *Report) {
	if f.AccountError != "" {
		r.add("account", Unknown, "", "the limits of the account cannot be read: %s", f.AccountError)
		return
	}
	a := &f.Account
	level, hint := OK, ""
	parts := []string{size(a.Store) + " on disk", counted("stream", a.Streams), counted("consumer", a.Consumers)}
	for i, l := range []struct {
		used  float64
		limit int64
		text  string
	}{
		{float64(a.Store), a.MaxStore, size(uint64(max(a.MaxStore, 0)))},
		{float64(a.Streams), int64(a.MaxStreams), fmt.Sprint(a.MaxStreams)},
		{float64(a.Consumers), int64(a.MaxConsumer), fmt.Sprint(a.MaxConsumer)},
	} {
		if l.limit <= 0 {
			continue
		}
		parts[i] += " of " + l.text
		if l.used >= fullWarning*float64(l.limit) {
			level, hint = Warning, "raise the account's limits; beyond them nothing is stored"
		}
	}
	r.add("account", level, hint, "%s", strings.Join(parts, ", "))
}

func layout(f *Facts, r *Report) {
	n := 0
	for _, c := range f.Changes {
		switch c.Action {
		case bus.ActionUnchanged:
			continue
		case bus.ActionDrift:
			r.add("layout", Bad, "it cannot be changed in place; docs/operations.md says what it means", "%s differs: %s", c.Object, c.Detail)
		case bus.ActionCreated:
			r.add("layout", Bad, "`hierarchy setup` creates it", "%s is missing", c.Object)
		default:
			r.add("layout", Warning, "`hierarchy setup` sets it right", "%s: %s", c.Object, c.Detail)
		}
		n++
	}
	if n == 0 {
		r.add("layout", OK, "", "%d partitions; all %d objects are as setup makes them", f.Layout.Partitions, len(f.Changes))
	}
}

func streams(f *Facts, r *Report) {
	copies, n := 0, len(r.Findings)
	for i := range f.Streams {
		s := &f.Streams[i]
		if copies == 0 || s.Replicas < copies {
			copies = s.Replicas
		}
		switch {
		case s.Clustered && s.Leader == "":
			r.add("streams", Bad, "wait for the election, or bring servers back until there is a majority", "%s has no leader", s.Name)
		case s.Missing > 0 && 2*s.Missing > s.Followers:
			r.add("streams", Bad, "bring them back: without a majority nothing is stored", "%s: %d of %d followers are away or behind", s.Name, s.Missing, s.Followers)
		case s.Missing > 0:
			r.add("streams", Warning, "bring it back", "%s: %d of %d followers are away or behind", s.Name, s.Missing, s.Followers)
		}
		if !s.File {
			r.add("streams", Bad, "set up again on another account or store, with files", "%s is kept in memory: a restart of the server loses it", s.Name)
		}
		if s.Async {
			r.add("streams", Bad, "recreate it without persist_mode async", "%s acknowledges before it writes", s.Name)
		}
	}
	if len(r.Findings) == n {
		more := ""
		if copies > 1 {
			more = "; `hierarchy verify --replicas` compares them"
		}
		r.add("streams", OK, "", "every stream is on file, %s%s", times(copies), more)
	}
}

func times(n int) string {
	if n == 1 {
		return "in one copy"
	}
	return fmt.Sprintf("in %d copies", n)
}

// capacity asks how much room is left.
func capacity(f *Facts, r *Report) {
	n := len(r.Findings)
	for i := range f.Streams {
		s := &f.Streams[i]
		full := max(share(s.Messages, s.MaxMsgs), share(s.Bytes, s.MaxBytes))
		switch {
		case s.Name == bus.StreamIntake && full >= fullWarning:
			r.add("limits", Warning, "start resolvers or raise --max-intake-bytes; beyond it submissions are refused", "%s is %.0f %% full", s.Name, 100*full)
		case s.Name == bus.StreamJournal && (s.MaxMsgs > 0 || s.MaxBytes > 0 || s.MaxAge > 0):
			r.add("limits", Bad, "`hierarchy setup` takes the limits away", "the journal has limits: history will be lost")
		}
	}
	for i := range f.Monitors {
		if m := &f.Monitors[i]; m.Error == "" && share(m.Store, m.MaxStore) >= fullWarning {
			r.add("limits", Warning, "make room, or raise max_file_store", "%s has used %s of %s on disk", m.name(), size(m.Store), size(uint64(m.MaxStore)))
		}
	}
	if len(r.Findings) == n {
		r.add("limits", OK, "", "the intake has room, and the journal has no limit")
	}
}

func share(n uint64, limit int64) float64 {
	if limit <= 0 {
		return 0
	}
	return float64(n) / float64(limit)
}

func syncing(f *Facts, r *Report) {
	if len(f.Monitors) == 0 {
		r.add("sync", Unknown, "--monitor http://HOST:8222 for each server asks its monitoring port",
			"nobody here can tell how often the server syncs its files; the default is every two minutes")
	}
	for i := range f.Monitors {
		m := &f.Monitors[i]
		switch {
		case m.Error != "":
			r.add("sync", Unknown, "", "%s does not answer: %s", m.URL, m.Error)
		case m.SyncAlways:
			r.add("sync", OK, "", "%s syncs every write before it acknowledges it", m.name())
		default:
			r.add("sync", Warning, "sync_interval: always in the configuration of nats-server, if that is too much to lose",
				"%s syncs every %s: a power cut can lose what was acknowledged since", m.name(), m.SyncInterval)
		}
	}
	if silent := f.silent(); len(f.Monitors) > 0 && len(silent) > 0 {
		r.add("sync", Unknown, "--monitor http://HOST:8222 for each server asks its monitoring port",
			"nobody asked %s how often it syncs", strings.Join(silent, ", "))
	}
}

// silent are the servers that hold copies and whose monitoring port has told
// nothing.
func (f *Facts) silent() (names []string) {
	for i := range f.Streams {
		for _, name := range f.Streams[i].Servers {
			known := slices.ContainsFunc(f.Monitors, func(m Monitor) bool { return m.Error == "" && m.Server == name })
			if !known && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// healths tells what servers say of themselves.
func healths(f *Facts, r *Report) {
	for i := range f.Monitors {
		if m := &f.Monitors[i]; m.Error == "" && m.Unhealthy != "" {
			r.add("servers", Bad, "look into its log; a server that could not write has to be restarted, with room on its disk",
				"%s calls itself unhealthy: %s", m.name(), m.Unhealthy)
		}
	}
}

// name is how a person knows the server.
func (m *Monitor) name() string {
	if m.Server == m.ID {
		return m.URL
	}
	return m.Server
}

func policy(f *Facts, r *Report) {
	switch {
	case f.Policy.Error != "":
		r.add("policy", Bad, "`hierarchy config validate` says where; the resolvers keep the policy before",
			"revision %d is not valid: %s", f.Policy.Revision, f.Policy.Error)
	case f.Policy.Revision == 0:
		r.add("policy", OK, "", "nothing is set: the built-in policy is in force")
	default:
		r.add("policy", OK, "", "revision %d is valid", f.Policy.Revision)
	}
}

func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// size writes bytes as people say them.
func size(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
