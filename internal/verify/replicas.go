package verify

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// ReplicasType is the value of "type" in [Replicas].
const ReplicasType = "ops.v1.replicas"

// ReplicaOptions say how to compare the copies. The zero value is usable.
type ReplicaOptions struct {
	// Streams are those to compare; none: all of Hierarchy's but the work queue,
	// which only holds hints and can be read by its workers alone.
	Streams []string
	// Patience bounds how long a copy may take to reach what its leader held
	// when the comparison began. 0 means 15 s.
	Patience time.Duration
	// Progress is told how much of all copies is read. It may be nil.
	Progress func(read, all uint64)
}

// Replicas is what a comparison of all copies found.
type Replicas struct {
	Type    string         `json:"type"` // ReplicasType
	Streams []StreamCopies `json:"streams"`
	// Divergences are where copies differ, in the order of streams and sequences.
	// At most a thousand are kept; Total counts all.
	Divergences []Divergence `json:"divergences"`
	Total       int          `json:"total_divergences"`
}

// OK reports whether no two copies differ. See [Replicas.Unread], too.
func (r *Replicas) OK() bool { return r.Total == 0 }

// Unread lists the copies that could not be compared, as "node: stream: why".
func (r *Replicas) Unread() []string {
	var out []string
	for i := range r.Streams {
		for _, c := range r.Streams[i].Copies {
			if c.Unread != "" {
				out = append(out, c.Node+": "+r.Streams[i].Stream+": "+c.Unread)
			}
		}
	}
	return out
}

// StreamCopies are the copies of one stream.
type StreamCopies struct {
	Stream   string `json:"stream"`
	Replicas int    `json:"replicas"`
	UpTo     uint64 `json:"up_to"` // last sequence of the leader when the comparison began
	Copies   []Copy `json:"copies"`
}

// Copy is what one server holds of a stream, read from that server.
type Copy struct {
	Node     string `json:"node"`
	Leader   bool   `json:"leader,omitempty"`
	First    uint64 `json:"first_seq"` // 0: none
	Last     uint64 `json:"last_seq"`
	Messages uint64 `json:"messages"`
	// Digest covers sequences, subjects, headers and bodies in order. Copies of
	// which nothing is removed meanwhile have the same.
	Digest string `json:"digest,omitempty"`
	Unread string `json:"unread,omitempty"` // why the copy was not compared
}

// How a copy differs from the others.
const (
	CopyMissing   = "missing"   // the others have messages that it has not
	CopyDifferent = "different" // it has other messages under the same sequences
	CopySurplus   = "surplus"   // it has messages that the others have not
)

// Divergence is a range of sequences in which a copy differs from the majority.
type Divergence struct {
	Stream   string `json:"stream"`
	Node     string `json:"node"`
	Kind     string `json:"kind"`
	First    uint64 `json:"first_seq"`
	Last     uint64 `json:"last_seq"`
	Messages uint64 `json:"messages"` // that differ in the range
	// Disputed: as many copies say one thing as the other, so that it may be the
	// other one that is wrong.
	Disputed bool   `json:"disputed,omitempty"`
	Repair   string `json:"repair"`
}

// String returns the divergence as one line.
func (d *Divergence) String() string {
	s := fmt.Sprintf("%s on %s: %d messages %s in sequences %d to %d", d.Stream, d.Node, d.Messages, d.Kind, d.First, d.Last)
	if d.Disputed {
		s += ", and no majority says who is right"
	}
	return s
}

// repair is what brings a copy back: the server fetches the whole stream from the
// others when it starts without its files. The folder is the one of the account;
// `$G` is that of a server without accounts.
func (d *Divergence) repair() string {
	s := fmt.Sprintf("stop the server %s, delete <store_dir>/jetstream/<account>/streams/%s there, and start it again: it fetches the stream from the others; "+
		"do it to one server at a time, and compare again before the next", d.Node, d.Stream)
	if d.Disputed {
		s = "bring the other servers back and compare again first; then " + s
	}
	return s
}

const (
	keptDivergences = 1000
	// looks is how often a difference has to be seen: what is removed or comes
	// while the copies are read differs for a moment.
	looks = 2
)

// CompareReplicas reads every copy of every stream, each from the server that
// holds it, and compares them message by message. It needs no files and no rights
// beyond those of a reader: a consumer with one replica lives on one server and
// reads that server's own copy, so one is made on each. It only reads. Its memory
// does not depend on the size of the streams.
//
// An error means that the comparison could not be made; a single copy that cannot
// be read is in [Replicas.Unread].
func CompareReplicas(ctx context.Context, b *bus.Bus, o ReplicaOptions) (*Replicas, error) {
	if o.Patience == 0 {
		o.Patience = 15 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(uint64, uint64) {}
	}
	infos, err := streamInfos(ctx, b, o.Streams)
	if err != nil {
		return nil, err
	}
	r := &Replicas{Type: ReplicasType}
	var all, read uint64
	for i := range infos {
		if len(infos[i].nodes) > 1 {
			all += infos[i].messages * uint64(len(infos[i].nodes))
		}
	}
	for i := range infos {
		c := &comparison{ReplicaOptions: o, bus: b, info: &infos[i], tell: func(n uint64) {
			read += n
			o.Progress(read, max(all, read))
		}}
		copies, found, err := c.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("verify: replicas of %s: %w", infos[i].name, err)
		}
		r.Streams = append(r.Streams, copies)
		for _, d := range found {
			r.Total++
			if len(r.Divergences) < keptDivergences {
				d.Repair = d.repair()
				r.Divergences = append(r.Divergences, d)
			}
		}
	}
	return r, nil
}

// streamInfo is what the leader of a stream says about it.
type streamInfo struct {
	name                  string
	replicas              int
	first, last, messages uint64
	leader                string
	nodes                 []string          // in order
	away                  map[string]string // why a node cannot be asked
}

// ours reports whether a stream is one of Hierarchy's.
func ours(name string) bool {
	return strings.HasPrefix(name, "OPS_") || strings.HasPrefix(name, "KV_OPS_") || strings.HasPrefix(name, "OBJ_OPS_")
}

// listTries is how often the streams are asked for: whoever would have answered may
// be the server that has just gone away, and nobody says so.
const listTries = 6

func streamInfos(ctx context.Context, b *bus.Bus, only []string) (infos []streamInfo, err error) {
	for range listTries {
		if infos, err = listStreams(ctx, b, only); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("verify: streams: %w", err)
	}
	for _, name := range only {
		if !slices.ContainsFunc(infos, func(s streamInfo) bool { return s.name == name }) {
			return nil, fmt.Errorf("verify: there is no stream %s", name)
		}
	}
	slices.SortFunc(infos, func(a, b streamInfo) int { return strings.Compare(a.name, b.name) })
	return infos, nil
}

func listStreams(ctx context.Context, b *bus.Bus, only []string) ([]streamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	var infos []streamInfo
	l := b.JetStream().ListStreams(ctx)
	for info := range l.Info() {
		name := info.Config.Name
		switch {
		case len(only) > 0 && !slices.Contains(only, name),
			len(only) == 0 && (!ours(name) || name == bus.StreamWork):
			continue
		}
		s := streamInfo{
			name: name, replicas: info.Config.Replicas, first: info.State.FirstSeq, last: info.State.LastSeq, messages: info.State.Msgs,
			away: map[string]string{},
		}
		if c := info.Cluster; c != nil && c.Name != "" {
			s.leader = c.Leader
			s.nodes = append(s.nodes, c.Leader)
			for _, p := range c.Replicas {
				s.nodes = append(s.nodes, p.Name)
				if p.Offline {
					s.away[p.Name] = "the server is offline"
				}
			}
		} else {
			s.leader = b.Conn().ConnectedServerName()
			s.nodes = []string{s.leader}
		}
		slices.Sort(s.nodes)
		infos = append(infos, s)
	}
	return infos, l.Err()
}

// comparison compares the copies of one stream.
type comparison struct {
	ReplicaOptions
	bus  *bus.Bus
	info *streamInfo
	tell func(read uint64)
}

// run looks at the whole stream, and again at what differed. A single copy has
// nothing to be compared with.
func (c *comparison) run(ctx context.Context) (StreamCopies, []Divergence, error) {
	if s := c.info; len(s.nodes) == 1 {
		only := Copy{Node: s.nodes[0], Leader: true, First: s.first, Last: s.last, Messages: s.messages}
		return StreamCopies{Stream: s.name, Replicas: s.replicas, UpTo: s.last, Copies: []Copy{only}}, nil, nil
	}
	return confirmed(c.info.last, func(from, to uint64) (StreamCopies, []Divergence, error) { return c.look(ctx, from, to) })
}

// confirmed looks from the first sequence to the last one, and again at what
// differed. A copy that the second look could not read was not compared: what the
// first one saw in it may have passed, or not.
func confirmed(last uint64, look func(from, to uint64) (StreamCopies, []Divergence, error)) (StreamCopies, []Divergence, error) {
	all, found, err := look(1, last)
	for again := 1; again < looks && err == nil && len(found) > 0; again++ {
		var now StreamCopies
		var second []Divergence
		if now, second, err = look(found[0].First, lastOf(found)); err != nil {
			break
		}
		found = lasting(found, second)
		for i := range now.Copies { // the same nodes in the same order
			all.Copies[i].Unread = cmp.Or(all.Copies[i].Unread, now.Copies[i].Unread)
		}
	}
	return all, found, err
}

func lastOf(found []Divergence) uint64 {
	last := uint64(0)
	for i := range found {
		last = max(last, found[i].Last)
	}
	return last
}

// lasting returns the differences of the second look that the first one has seen.
func lasting(first, second []Divergence) []Divergence {
	return slices.DeleteFunc(second, func(d Divergence) bool {
		return !slices.ContainsFunc(first, func(f Divergence) bool {
			return f.Node == d.Node && f.Kind == d.Kind && f.First <= d.Last && d.First <= f.Last
		})
	})
}

// look reads the copies side by side, from one sequence to another.
func (c *comparison) look(ctx context.Context, from, to uint64) (StreamCopies, []Divergence, error) {
	out := StreamCopies{Stream: c.info.name, Replicas: c.info.replicas, UpTo: c.info.last}
	var readers []*copyReader
	defer func() {
		for _, r := range readers {
			r.close()
		}
	}()
	for _, node := range c.info.nodes {
		r := &copyReader{conn: c.bus.Conn(), stream: c.info.name, node: node, from: from, to: to, patience: c.Patience, tell: c.tell}
		r.copy = Copy{Node: node, Leader: node == c.info.leader, Unread: c.info.away[node]}
		readers = append(readers, r)
	}
	if to >= from {
		if err := openAll(ctx, readers); err != nil {
			return out, nil, err
		}
	}
	m := merge{stream: c.info.name}
	if err := m.run(ctx, readers); err != nil {
		return out, nil, err
	}
	for _, r := range readers {
		r.copy.Digest = hex.EncodeToString(r.sum())
		out.Copies = append(out.Copies, r.copy)
	}
	return out, m.found, nil
}
