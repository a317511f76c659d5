package bus

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The streams and buckets.
const (
	StreamIntake  = "OPS_INTAKE"
	StreamJournal = "OPS_JOURNAL"
	StreamWork    = "OPS_WORK"
	StreamEvents  = "OPS_EVENTS"

	bucketEntities  = "OPS_ENTITIES"
	bucketRecords   = "OPS_OPERATIONS"
	bucketConfig    = "OPS_CONFIG"
	bucketLeases    = "OPS_LEASES"
	bucketMarks     = "OPS_MARKS"
	bucketSnapshots = "OPS_SNAPSHOTS"
	bucketDead      = "OPS_DEAD"
)

// WorkConsumer is the durable consumer that the executors of a pool share.
func WorkConsumer(pool string) string { return "executor-" + pool }

// Metadata keys on every object.
const (
	metaSchema = "hierarchy.schema"
	metaLayout = "hierarchy.layout"
	schema     = "1"
)

// Layout is how a cluster was set up. It is stored in the metadata of
// OPS_INTAKE, so that nobody needs a flag for it. Partitions and Storage cannot
// be changed later.
type Layout struct {
	// Partitions is the number of partitions, 1 to 1024.
	Partitions int `json:"partitions"`
	// Replicas of every stream: 1, 3 or 5.
	Replicas int `json:"replicas"`
	// Storage of every stream.
	Storage jetstream.StorageType `json:"storage"`
	// MaxIntakeBytes and MaxIntakeMsgs are the backpressure: beyond them
	// submissions are refused. 0 or less: no limit.
	MaxIntakeBytes int64 `json:"max_intake_bytes"`
	MaxIntakeMsgs  int64 `json:"max_intake_msgs"`
	// EventsMaxAge and RecordsMaxAge are how long events and status records
	// stay. 0: for ever. Dead letters stay as long as records.
	EventsMaxAge  time.Duration `json:"events_max_age"`
	RecordsMaxAge time.Duration `json:"records_max_age"`
}

// DefaultLayout is 16 partitions on one server, with files.
func DefaultLayout() Layout {
	return Layout{
		Partitions:     16,
		Replicas:       1,
		Storage:        jetstream.FileStorage,
		MaxIntakeBytes: 1 << 30,
		MaxIntakeMsgs:  1_000_000,
		EventsMaxAge:   7 * 24 * time.Hour,
		RecordsMaxAge:  7 * 24 * time.Hour,
	}
}

// Check says why no server takes the layout; nil: it is fine. [Setup] and [Diff] ask
// first.
func (l Layout) Check() error {
	switch {
	case l.Partitions < 1 || l.Partitions > maxPartitions:
		return fmt.Errorf("bus: partitions %d: must be 1 to %d", l.Partitions, maxPartitions)
	case l.Replicas != 1 && l.Replicas != 3 && l.Replicas != 5:
		return fmt.Errorf("bus: replicas %d: must be 1, 3 or 5", l.Replicas)
	case l.EventsMaxAge < 0:
		return fmt.Errorf("bus: events_max_age %s: must not be negative", l.EventsMaxAge)
	case l.RecordsMaxAge < 0:
		return fmt.Errorf("bus: records_max_age %s: must not be negative", l.RecordsMaxAge)
	}
	return nil
}

func layoutOf(cfg jetstream.StreamConfig) (Layout, error) {
	var l Layout
	text := cfg.Metadata[metaLayout]
	if text == "" {
		return l, fmt.Errorf("%w: %s has no layout in its metadata", ErrNotSetUp, cfg.Name)
	}
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return l, fmt.Errorf("bus: layout of %s: %w", cfg.Name, err)
	}
	return l, nil
}

// streams is the table of everything that [Setup] creates.
func (l Layout) streams() []jetstream.StreamConfig {
	text, err := json.Marshal(l)
	if err != nil { // a struct of numbers
		panic(err)
	}
	all := []jetstream.StreamConfig{
		l.intake(string(text)), l.journal(), l.work(), l.events(),
		l.bucket(bucketEntities, "Heads of the entities: a view of the journal.", 1, 0),
		l.bucket(bucketRecords, "Status, verdict and decision of each operation: a view of the journal.", 1, l.RecordsMaxAge),
		l.bucket(bucketDead, "Operations that were given up, as they were submitted, until somebody tries them again.", 1, l.RecordsMaxAge),
		l.bucket(bucketConfig, "The policy; its revision is in every decision.", 10, 0),
		l.leases(),
		l.bucket(bucketMarks, "How far the outputs of each partition are published, and its current snapshot.", 1, 0),
		l.snapshots(),
	}
	for i := range all {
		l.complete(&all[i])
	}
	return all
}

// complete fills in what all streams share and what the server would default,
// so that a later comparison finds no difference.
func (l Layout) complete(c *jetstream.StreamConfig) {
	c.Storage, c.Replicas = l.Storage, l.Replicas
	if c.Metadata == nil {
		c.Metadata = map[string]string{}
	}
	c.Metadata[metaSchema] = schema
	for _, n := range []*int64{&c.MaxMsgs, &c.MaxBytes, &c.MaxMsgsPerSubject} {
		if *n <= 0 {
			*n = -1
		}
	}
	if c.MaxMsgSize == 0 {
		c.MaxMsgSize = -1
	}
	c.MaxConsumers = -1
	if c.Duplicates == 0 {
		c.Duplicates = 2 * time.Minute
		if c.MaxAge > 0 {
			c.Duplicates = min(c.Duplicates, c.MaxAge)
		}
	}
}

func (l Layout) intake(layout string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamIntake,
		Description: "Submissions, cancels and follow-ups in the order that counts. Its limits are the backpressure.",
		Subjects:    []string{"ops.submit.*", "ops.cancel.*", "ops.bulk.*", "ops.follow.*", "ops.control.*"},
		SubjectTransform: &jetstream.SubjectTransformConfig{
			Source:      "ops.*.*",
			Destination: "ops.intake.{{partition(" + strconv.Itoa(l.Partitions) + ",2)}}.{{wildcard(1)}}.{{wildcard(2)}}",
		},
		Retention:  jetstream.LimitsPolicy,
		Discard:    jetstream.DiscardNew,
		MaxBytes:   l.MaxIntakeBytes,
		MaxMsgs:    l.MaxIntakeMsgs,
		MaxMsgSize: MaxIntakeBody + 8<<10,
		Metadata:   map[string]string{metaLayout: layout},
	}
}

func (l Layout) journal() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamJournal,
		Description: "The truth: one message a step, fenced by the expected last sequence of its subject.",
		Subjects:    []string{"ops.journal.*"},
		Retention:   jetstream.LimitsPolicy,
		DenyDelete:  true,
	}
}

func (l Layout) work() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamWork,
		Description: "Granted attempts waiting for an executor. A hint: the journal grants.",
		Subjects:    []string{"ops.work.*.*.*.*"},
		Retention:   jetstream.WorkQueuePolicy,
	}
}

func (l Layout) events() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamEvents,
		Description: "The public feed of transitions: ops.event.<name>.<target>.",
		Subjects:    []string{"ops.event.*.*.*"},
		Retention:   jetstream.LimitsPolicy,
		MaxAge:      l.EventsMaxAge,
		MaxBytes:    1 << 30,
		// The server remembers every id of the window in memory. Repeats come
		// from a take-over, within seconds; readers know later ones by event_id.
		Duplicates: 10 * time.Second,
	}
}

// bucket is a key-value bucket as clients know it, with one difference: direct
// reads are off, so that every read is answered by the leader.
func (l Layout) bucket(name, description string, history int64, maxAge time.Duration) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              "KV_" + name,
		Description:       description,
		Subjects:          []string{"$KV." + name + ".>"},
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxMsgsPerSubject: history,
		MaxAge:            maxAge,
		AllowRollup:       true,
		DenyDelete:        true,
	}
}

func (l Layout) leases() jetstream.StreamConfig {
	c := l.bucket(bucketLeases, "Who is alive: a lease a resolver. Never a fence.", 1, 0)
	c.AllowMsgTTL = true
	c.SubjectDeleteMarkerTTL = time.Second // so that a watcher sees a lease expire
	return c
}

// snapshots is an object store as clients know it, read from the leader.
func (l Layout) snapshots() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        "OBJ_" + bucketSnapshots,
		Description: "States of the partitions at some step, so that a start need not read the whole journal.",
		Subjects:    []string{"$O." + bucketSnapshots + ".C.>", "$O." + bucketSnapshots + ".M.>"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		AllowRollup: true,
	}
}

// workConsumer is the durable that the executors of a pool share. The attempt's
// lease, not AckWait, decides when an attempt is lost: AckWait only brings back
// work that no executor ever started.
func (l Layout) workConsumer(pool string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       WorkConsumer(pool),
		Description:   "Shared by all executors of the pool " + pool + ".",
		FilterSubject: "ops.work." + pool + ".>",
		AckPolicy:     jetstream.AckExplicitPolicy,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckWait:       60 * time.Second,
		MaxAckPending: 20_000,
		MaxDeliver:    -1,
		Metadata:      map[string]string{metaSchema: schema},
	}
}
