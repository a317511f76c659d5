package audit_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
)

// A journal is read by those who doubt it, so nothing in it may stop the reader.
func FuzzRaw(f *testing.F) {
	var all [][]byte
	add := func(h *history) {
		all = nil
		for _, s := range h.steps {
			b, err := json.Marshal(s)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
			all = append(all, b)
		}
		f.Add(bytes.Join(all, []byte("\n")))
	}
	add(story())
	for _, tell := range []func(h *history){preempted(110), ended, foundLate, both, apart, replaced, aged} {
		h := newHistory()
		alone(tell)(h)
		add(h)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a := audit.New(audit.Options{PartitionOf: partitionOf})
		lines := bytes.Split(data, []byte("\n"))
		for i, line := range lines {
			a.Raw(uint64(i+1), 0, line)
		}
		r := a.Finish(true)
		if r.Steps != len(lines) {
			t.Errorf("%d of %d messages counted", r.Steps, len(lines))
		}
	})
}
