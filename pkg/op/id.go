package op

import (
	"strconv"

	"github.com/google/uuid"
)

// NewID returns a new operation id: a UUIDv7, so that ids sort roughly by the
// time of their making. It is the only random thing of this package.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// DerivedID is the id of an operation that came without one in the intake
// message seq, at place index of its body. Whoever reads the log again derives
// the same.
func DerivedID(seq uint64, index int) string {
	return "s-" + strconv.FormatUint(seq, 10) + "-" + strconv.Itoa(index)
}

// FollowUpPrefix starts the ids of operations that the system derives from
// another operation.
const FollowUpPrefix = "f-"

// Reserved reports whether id has a form that only the system gives: that of
// [DerivedID], or [FollowUpPrefix] and a UUID. [Decode] refuses such ids,
// because who could take one in advance could make the system believe that its
// own operation was submitted already.
func Reserved(id string) bool {
	switch {
	case len(id) == len(FollowUpPrefix)+36 && id[:len(FollowUpPrefix)] == FollowUpPrefix:
		return uuid.Validate(id[len(FollowUpPrefix):]) == nil
	case len(id) > 2 && id[:2] == "s-":
		dashes := 0
		for _, c := range id[2:] {
			if c == '-' {
				dashes++
			} else if c < '0' || c > '9' {
				return false
			}
		}
		return dashes == 1
	}
	return false
}
