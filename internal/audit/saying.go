package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// saying shortens what an event says and the history settles. It is never 0. Two
// things are left out:
//
// The effective priority of an operation that is not told about because it won or
// ended well. An event tells what it is after the step: then the operation may be
// staged again, with what waiting was worth when somebody last looked at its area,
// and without ancestors that are being looked for. No step records either.
//
// The version and the revision that the success of another operation led to. They
// are compared where that one tells of them.
func saying(e *op.Event, token string) uint64 {
	said := *e
	said.At = e.At.UTC()
	if !rankSettled(e) {
		said.Effective = 0
	}
	if e.Reason == op.Coalesced {
		said.Version, said.Revision = 0, 0
	}
	b, err := json.Marshal(&said)
	if err != nil { // nothing that was read as JSON
		b = []byte(err.Error())
	}
	h := sha256.Sum256(append(append(b, 0), token...))
	return max(1, binary.LittleEndian.Uint64(h[:]))
}

// unsettled are the events of which the history does not settle the effective
// priority. The others are about a winner, which was granted by it and keeps it until
// its attempt has ended, or about no operation.
var unsettled = []op.EventName{
	op.EventSubmitted, op.EventFailed, op.EventRetry, op.EventRejected, op.EventPreempted, op.EventCancelled,
}

func rankSettled(e *op.Event) bool {
	if e.Name == op.EventCompleted {
		return e.Reason != op.Coalesced
	}
	return !slices.Contains(unsettled, e.Name)
}
