package bus

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func FuzzParseJournal(f *testing.F) {
	for _, s := range []string{"ops.journal.0", "ops.journal.1023", "ops.journal.1024", "ops.journal.-1", "ops.journal.01", "ops.journal.", "ops.journal.1.2", "ops.journal.*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseJournal(s)
		if err != nil {
			if p != 0 {
				t.Fatalf("%q: a partition beside an error", s)
			}
			return
		}
		if p < 0 || p >= maxPartitions || JournalSubject(p) != s {
			t.Fatalf("%q reads as partition %d", s, p)
		}
	})
}

// FuzzSubjects: whatever is an id makes subjects of the expected number of tokens,
// without a wildcard; what is read from a stored subject is what was put in; and
// its partition is one of those that there are.
func FuzzSubjects(f *testing.F) {
	f.Add("door-1", "modify_field", "default", uint16(3), uint16(16))
	f.Add("A_b-9", "x", "gpu", uint16(0), uint16(1))
	f.Add("a.b", "*", ">", uint16(1023), uint16(1024))
	f.Fuzz(func(t *testing.T, target, opType, pool string, partition, partitions uint16) {
		p, n := int(partition%maxPartitions), int(partitions%maxPartitions)+1
		if of := PartitionOf(target, n); of < 0 || of >= n {
			t.Fatalf("partition %d of %d", of, n)
		}
		if !op.Token(target) || !op.Token(opType) || !op.Token(pool) {
			return
		}
		for subject, tokens := range map[string]int{
			SubmitSubject(target): 3, CancelSubject(target): 3, BulkSubject(target): 3, FollowSubject(target): 3,
			WorkSubject(pool, opType, p, target): 6, EventSubject(op.EventCompleted, target): 5,
			JournalSubject(p): 3, ResultSubject(p): 3, LoadSubject(p): 3, WhatIfSubject(p): 3,
		} {
			parts := strings.Split(subject, ".")
			if len(parts) != tokens || strings.ContainsAny(subject, "*> \t\r\n\x00") {
				t.Fatalf("%q has %d tokens, not %d, or a wildcard", subject, len(parts), tokens)
			}
		}
		gotPool, gotType, gotP, gotTarget, err := ParseWork(WorkSubject(pool, opType, p, target))
		if err != nil || gotPool != pool || gotType != opType || gotP != p || gotTarget != target {
			t.Fatalf("work: %q %q %d %q, %v", gotPool, gotType, gotP, gotTarget, err)
		}
		name, of, err := ParseEvent(EventSubject(op.EventCompleted, target))
		if err != nil || name != op.EventCompleted || of != target {
			t.Fatalf("event: %q %q, %v", name, of, err)
		}
		gotP, kind, key, err := ParseIntake("ops.intake." + parts(p) + "." + string(KindSubmit) + "." + target)
		if err != nil || gotP != p || kind != KindSubmit || key != target {
			t.Fatalf("intake: %d %q %q, %v", gotP, kind, key, err)
		}
	})
}

func parts(p int) string { return strings.TrimPrefix(JournalSubject(p), "ops.journal.") }

// FuzzAnswers: an answer of the server, or what claims to be one, is read without
// harm, and the quick reader of acknowledgements agrees with the careful one.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{
		`{"stream":"OPS_JOURNAL","seq":17}`, `{"stream":"KV_OPS_ENTITIES", "domain":"hub", "seq": 3,"duplicate": true}`,
		`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 4"},"stream":"S","seq":0}`,
		`{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","message":{"subject":"a","seq":3,"hdrs":"TkFUUy8xLjANCktWLU9wZXJhdGlvbjogREVMDQoNCg==","data":"eA==","time":"2026-01-02T03:04:05Z"}}`,
		`{"message":{"hdrs":"TkFUUy8xLjAgNDA0DQoNCg=="}}`, `{"seq":18446744073709551615}`, `{}`, ``, `[]`, `+OK {"stream":"a","seq":1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := parseStored(data); err == nil {
			m.deleted()
			m.header(HeaderStepID)
		}
		ack, err := parseAck(data)
		quick, ok := ackSeq(data)
		if ok != (quick > 0) {
			t.Fatalf("sequence %d, %v", quick, ok)
		}
		// What a server writes: these members, in this order, each once.
		var a struct {
			Stream    string `json:"stream"`
			Domain    string `json:"domain,omitempty"`
			Seq       uint64 `json:"seq"`
			Duplicate bool   `json:"duplicate,omitempty"`
		}
		if err != nil || json.Unmarshal(data, &a) != nil || strings.ContainsAny(a.Stream+a.Domain, `"\`) || ack.Seq == 0 {
			return
		}
		written, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if quick, _ := ackSeq(written); quick != ack.Seq {
			t.Fatalf("%s: sequence %d is read as %d", written, ack.Seq, quick)
		}
	})
}
