package linear

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Kind is what a client asks for.
type Kind string

// The kinds. All but Read are operations (contract §4).
const (
	Read   Kind = "read"   // of the head, from the leader
	Create Kind = "create" // create_entity
	Update Kind = "update" // complex_update: the value, and one more on the count
	Modify Kind = "modify" // modify_field: the value
	Delete Kind = "delete" // delete_entity
)

// Verdict is how an operation ended, as far as the register is concerned.
type Verdict string

// The verdicts. Read has none.
const (
	Unknown Verdict = "unknown" // nobody said what became of it
	Applied Verdict = "applied" // SUCCEEDED
	Stale   Verdict = "stale"   // expected_version was not the current one
	Exists  Verdict = "exists"  // creation of what is there
	Missing Verdict = "missing" // there is no such entity, or a tombstone
	Lost    Verdict = "lost"    // it ended without an effect, for a reason that says nothing about the entity
)

// None as [Call.Expected] expects no version.
const None = -1

// View is what somebody knows about an entity. The zero value is one that never
// existed.
type View struct {
	Alive    bool   `json:"alive,omitempty"` // false with a version: a tombstone
	Version  uint64 `json:"version"`
	Revision uint64 `json:"revision"`
	Count    int    `json:"count"`           // updates since the creation
	Value    string `json:"value,omitempty"` // id of the operation that wrote last
}

// Call is one request of one client, from its beginning to its end.
type Call struct {
	Client   int           `json:"client"`
	Kind     Kind          `json:"kind"`
	Entity   string        `json:"entity"`
	Begin    time.Duration `json:"begin"` // since the start of the run
	End      time.Duration `json:"end"`   // 0: it never ended
	OpID     string        `json:"op_id,omitempty"`
	Expected int64         `json:"expected"` // expected_version, or None
	Verdict  Verdict       `json:"verdict,omitempty"`
	// Seen is what a read returned. Of an operation that was applied, version and
	// revision after it; of a stale one, the current version.
	Seen View `json:"seen"`
}

// History is what all clients asked and were told, in no particular order.
type History []Call

// Recorder collects calls. Its methods may be called from any goroutine.
type Recorder struct {
	start time.Time

	mu    sync.Mutex
	calls History
}

// NewRecorder starts the clock of a run. It is the monotonic one of this process,
// so all clients have to live in it.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// Now is how long the run has lasted.
func (r *Recorder) Now() time.Duration { return time.Since(r.start) }

// Add records a call.
func (r *Recorder) Add(c Call) {
	r.mu.Lock()
	r.calls = append(r.calls, c)
	r.mu.Unlock()
}

// Len is how many calls are recorded.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

// History is a copy of everything recorded so far.
func (r *Recorder) History() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(History(nil), r.calls...)
}

// Write writes a history, one call a line.
func (h History) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	for i := range h {
		if err := enc.Encode(&h[i]); err != nil {
			return fmt.Errorf("linear: write a history: %w", err)
		}
	}
	return b.Flush()
}

// ReadHistory reads what [History.Write] wrote.
func ReadHistory(r io.Reader) (History, error) {
	var h History
	dec := json.NewDecoder(r)
	for {
		var c Call
		switch err := dec.Decode(&c); {
		case errors.Is(err, io.EOF):
			return h, nil
		case err != nil:
			return nil, fmt.Errorf("linear: call %d of a history: %w", len(h)+1, err)
		}
		h = append(h, c)
	}
}
