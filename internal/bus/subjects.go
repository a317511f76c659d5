package bus

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// IntakeKind says what an intake message asks for.
type IntakeKind string

// The kinds of intake messages.
const (
	KindSubmit IntakeKind = "submit" // one operation, or an array of them on one target
	KindCancel IntakeKind = "cancel" // cancel one operation, or all of a target
	KindBulk   IntakeKind = "bulk"   // operations on different targets of one partition
	KindFollow IntakeKind = "follow" // the other side of a structural change; resolvers only
	// KindControl asks a whole partition for something: to cancel what a
	// submitter has pending, or what descends from an operation that another
	// partition has cancelled. Resolvers and submitters only.
	KindControl IntakeKind = "control"
)

// maxPartitions bounds the partition count: each is a subject, a consumer and a
// state machine.
const maxPartitions = 1024

// PartitionOf is the partition of target among n: the hash that the server's
// transform computes, FNV-1a 32 modulo n. n must be positive.
func PartitionOf(target string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(target)) // a hash never fails
	return int(h.Sum32() % uint32(n))
}

// SubmitSubject is where operations on target are submitted.
func SubmitSubject(target string) string { return "ops.submit." + target }

// CancelSubject is where operations on target are cancelled.
func CancelSubject(target string) string { return "ops.cancel." + target }

// BulkSubject is where operations of one partition are submitted together; the
// target of the first names the partition.
func BulkSubject(target string) string { return "ops.bulk." + target }

// FollowSubject is where a resolver submits the other side of a structural
// change.
func FollowSubject(target string) string { return "ops.follow." + target }

// JournalSubject is the journal of one partition.
func JournalSubject(partition int) string { return "ops.journal." + strconv.Itoa(partition) }

// WorkSubject is where a granted attempt waits for an executor of a pool.
func WorkSubject(pool, opType string, partition int, target string) string {
	return "ops.work." + pool + "." + opType + "." + strconv.Itoa(partition) + "." + target
}

// ResultSubject is where executors report to the owner of a partition.
func ResultSubject(partition int) string { return "ops.result." + strconv.Itoa(partition) }

// LoadSubject is where the owner of a partition says how full it is. Nothing is
// stored there.
func LoadSubject(partition int) string { return "ops.load." + strconv.Itoa(partition) }

// WhatIfSubject is where the owner of a partition is asked what would become of
// an operation.
func WhatIfSubject(partition int) string { return "ops.whatif." + strconv.Itoa(partition) }

// EventSubject is where an event about target is told. System events without a
// target give their partition instead.
func EventSubject(name op.EventName, target string) string {
	return "ops.event." + string(name) + "." + target
}

// EventFilter selects events by a name pattern, such as "operation.*",
// "entity.versioned" or "*" for all, and a target, "" or "*" for all.
func EventFilter(pattern, target string) string {
	if target == "" {
		target = "*"
	}
	if pattern == "" || pattern == "*" || pattern == ">" {
		pattern = "*.*"
	}
	return "ops.event." + pattern + "." + target
}

// APISubject is an endpoint of the request-reply API.
func APISubject(verb string, args ...string) string {
	return strings.Join(append([]string{"ops.api", verb}, args...), ".")
}

// ParseIntake reads a stored intake subject, ops.intake.<p>.<kind>.<key>. The
// key is whatever the publisher chose and may break the grammar of ids: that is
// for the receiver to refuse, with a reason.
func ParseIntake(subject string) (partition int, kind IntakeKind, key string, err error) {
	t := strings.Split(subject, ".")
	if len(t) != 5 || t[0] != "ops" || t[1] != "intake" || t[4] == "" {
		return 0, "", "", badSubject(subject, "ops.intake.<partition>.<kind>.<key>")
	}
	if partition, err = parsePartition(t[2]); err != nil {
		return 0, "", "", badSubject(subject, "ops.intake.<partition>.<kind>.<key>")
	}
	switch kind = IntakeKind(t[3]); kind {
	case KindSubmit, KindCancel, KindBulk, KindFollow, KindControl:
		return partition, kind, t[4], nil
	}
	return 0, "", "", badSubject(subject, "a known kind")
}

// ParseJournal reads a journal subject.
func ParseJournal(subject string) (partition int, err error) {
	rest, ok := strings.CutPrefix(subject, "ops.journal.")
	if ok {
		partition, err = parsePartition(rest)
	}
	if !ok || err != nil {
		return 0, badSubject(subject, "ops.journal.<partition>")
	}
	return partition, nil
}

// ParseEvent reads an event subject.
func ParseEvent(subject string) (name op.EventName, target string, err error) {
	t := strings.Split(subject, ".")
	if len(t) != 5 || t[0] != "ops" || t[1] != "event" || !op.Token(t[2]) || !op.Token(t[3]) || !op.Token(t[4]) {
		return "", "", badSubject(subject, "ops.event.<name>.<target>")
	}
	return op.EventName(t[2] + "." + t[3]), t[4], nil
}

// ParseWork reads the subject of a granted attempt.
func ParseWork(subject string) (pool, opType string, partition int, target string, err error) {
	t := strings.Split(subject, ".")
	if len(t) == 6 && t[0] == "ops" && t[1] == "work" && op.Token(t[2]) && op.Token(t[3]) && op.Token(t[5]) {
		if partition, err = parsePartition(t[4]); err == nil {
			return t[2], t[3], partition, t[5], nil
		}
	}
	return "", "", 0, "", badSubject(subject, "ops.work.<pool>.<type>.<partition>.<target>")
}

// parsePartition accepts exactly what strconv.Itoa writes, so that a partition
// has one spelling.
func parsePartition(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n >= maxPartitions || strconv.Itoa(n) != s {
		return 0, fmt.Errorf("bus: %q is no partition", s)
	}
	return n, nil
}

func badSubject(subject, want string) error {
	return fmt.Errorf("bus: subject %q is not %s", subject, want)
}
