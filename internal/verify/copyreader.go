package verify

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// Reading one copy.
const (
	copyBatch = 500     // messages a pull
	copyBytes = 8 << 20 // and bytes; no message of ours is larger
	// copyWait is how long one pull may take. A copy that lags is asked again.
	copyWait    = 2 * time.Second
	pullExpires = 200 * time.Millisecond
	// copyTries bounds the search for a consumer on every server. The server
	// places each at random: of three, one is still missing after 60 once in ten
	// thousand million times.
	copyTries = 60
	copyIdle  = 30 * time.Second // after which the server drops a consumer
	apiWait   = 5 * time.Second
)

type digest [16]byte

// item is one message of a copy.
type item struct {
	seq    uint64
	digest digest
}

// copyReader reads one server's copy of a stream, through a consumer that lives
// on that server.
type copyReader struct {
	conn         *nats.Conn
	stream, node string
	from, to     uint64
	patience     time.Duration
	tell         func(read uint64)

	copy     Copy
	consumer string
	sub      *nats.Subscription
	pull     func(context.Context) error // takes one batch; nil: there is nothing to read
	items    []item
	done     bool      // nothing more is expected
	since    time.Time // when the server had no more for the first time in a row
	running  hash.Hash
}

// consumerInfo is what we want to know of a consumer.
type consumerInfo struct {
	Name    string `json:"name"`
	Cluster *struct {
		Leader string `json:"leader"`
	} `json:"cluster"`
	Error *struct {
		Code        int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
}

// api asks the JetStream API. The answer is small.
func api(ctx context.Context, nc *nats.Conn, verb string, request any) (info consumerInfo, err error) {
	body := []byte(nil)
	if request != nil {
		if body, err = json.Marshal(request); err != nil {
			return info, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, "$JS.API.CONSUMER."+verb, body)
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return info, err
	}
	if info.Error != nil {
		return info, errors.New(info.Error.Description)
	}
	return info, nil
}

// openAll makes a consumer on the server of every reader. The server chooses
// where one lives, so they are made until each server has one.
func openAll(ctx context.Context, readers []*copyReader) error {
	var free []*copyReader
	for _, r := range readers {
		if r.copy.Unread == "" {
			free = append(free, r)
		}
	}
	var last error
	for range copyTries {
		if len(free) == 0 {
			return nil
		}
		name := "copy_" + nuid.Next()
		info, err := free[0].create(ctx, name)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			last = err
			continue
		}
		leader := free[0].node // a server by itself does not say
		if info.Cluster != nil && info.Cluster.Leader != "" {
			leader = info.Cluster.Leader
		}
		i := slices.IndexFunc(free, func(r *copyReader) bool { return r.node == leader })
		if i < 0 {
			drop(free[0].conn, free[0].stream, name)
			continue
		}
		if err := free[i].begin(name); err != nil {
			return err
		}
		free = slices.Delete(free, i, i+1)
	}
	for _, r := range free {
		r.copy.Unread = "no consumer came to live on this server"
		if last != nil {
			r.copy.Unread += ": " + last.Error()
		}
	}
	return nil
}

func (r *copyReader) create(ctx context.Context, name string) (consumerInfo, error) {
	return api(ctx, r.conn, "CREATE."+r.stream+"."+name, map[string]any{
		"stream_name": r.stream,
		"action":      "create",
		"config": map[string]any{
			"name": name, "description": "Reads one server's copy; goes away with its reader.",
			"deliver_policy": "by_start_sequence", "opt_start_seq": r.from, "ack_policy": "none",
			"replay_policy": "instant", "inactive_threshold": copyIdle, "mem_storage": true, "num_replicas": 1,
		},
	})
}

// drop removes a consumer that is not needed any more. Who cannot leaves it to
// the server, which drops it after a while.
func drop(nc *nats.Conn, stream, name string) {
	_ = nc.Publish("$JS.API.CONSUMER.DELETE."+stream+"."+name, nil)
}

func (r *copyReader) begin(name string) (err error) {
	r.consumer, r.running, r.pull = name, newDigest(), r.batch
	r.sub, err = r.conn.SubscribeSync(r.conn.NewInbox())
	return err
}

func (r *copyReader) close() {
	if r.sub != nil {
		_ = r.sub.Unsubscribe() // it fails only on a closed connection
		drop(r.conn, r.stream, r.consumer)
	}
}

func newDigest() hash.Hash { return sha256.New() }

func (r *copyReader) sum() []byte {
	if r.running == nil {
		return nil
	}
	return r.running.Sum(nil)
}

func (r *copyReader) head() (item, bool) {
	if len(r.items) == 0 {
		return item{}, false
	}
	return r.items[0], true
}

// next leaves the first item behind.
func (r *copyReader) next() {
	x := r.items[0]
	r.items = r.items[1:]
	if r.copy.First == 0 {
		r.copy.First = x.seq
	}
	r.copy.Last = x.seq
	r.copy.Messages++
	r.running.Write(x.digest[:])
}

// fill asks for more if there is no head. A copy that has no more is at its end
// when it stays behind for the whole patience: it may be catching up.
func (r *copyReader) fill(ctx context.Context) error {
	if len(r.items) > 0 || r.done {
		return nil
	}
	if r.pull == nil {
		r.done = true
		return nil
	}
	if err := r.pull(ctx); err != nil {
		return err
	}
	switch {
	case len(r.items) > 0:
		r.since = time.Time{}
	case r.since.IsZero():
		r.since = time.Now()
	case time.Since(r.since) > r.patience:
		r.done = true
	}
	r.tell(uint64(len(r.items)))
	return nil
}

// batch asks for one batch and takes it. It ends when the batch is complete, or
// nothing more is there.
func (r *copyReader) batch(ctx context.Context) error {
	request, err := json.Marshal(map[string]any{"batch": copyBatch, "max_bytes": copyBytes, "expires": pullExpires})
	if err != nil {
		return err
	}
	if err := r.conn.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+r.stream+"."+r.consumer, r.sub.Subject, request); err != nil {
		return err
	}
	for n := 0; n < copyBatch && !r.done; {
		wait, cancel := context.WithTimeout(ctx, copyWait)
		m, err := r.sub.NextMsgWithContext(wait)
		cancel()
		if err != nil {
			return fmt.Errorf("the server does not answer: %w", err)
		}
		if status := m.Header.Get("Status"); status != "" && len(m.Data) == 0 {
			why := m.Header.Get("Description")
			switch {
			case status == "408", status == "409" && strings.Contains(why, "MaxBytes"): // the end of this batch
				return nil
			case status == "100", status == "409" && strings.Contains(why, "Batch Completed"):
				continue // a sign of life, and the end of the request before
			}
			return fmt.Errorf("the server says %s %s", status, why)
		}
		md, err := m.Metadata()
		if err != nil {
			return err
		}
		n++
		if md.Sequence.Stream <= r.to {
			r.items = append(r.items, item{md.Sequence.Stream, digestOf(m, md.Sequence.Stream)})
		}
		r.done = md.Sequence.Stream >= r.to
	}
	return nil
}

// digestOf covers everything that a message is.
func digestOf(m *nats.Msg, seq uint64) digest {
	h := sha256.New()
	var n [8]byte
	part := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	binary.BigEndian.PutUint64(n[:], seq)
	h.Write(n[:])
	part([]byte(m.Subject))
	for _, k := range slices.Sorted(maps.Keys(m.Header)) {
		part([]byte(k))
		part([]byte(strings.Join(m.Header[k], "\x00")))
	}
	part(m.Data)
	return digest(h.Sum(nil)[:16])
}
