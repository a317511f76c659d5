package resolver

import (
	"encoding/json"
	"fmt"
	"testing"
)

// An id that was added is never denied, before and after the filter is made and
// across a snapshot; few of the others are taken for known.
func TestSeenNeverForgets(t *testing.T) {
	s := new(seen)
	const n = 50_000
	for i := range n {
		s.add(fmt.Sprintf("op-%d", i))
		if i == n/2 {
			data, err := json.Marshal(s.clone())
			if err != nil {
				t.Fatal(err)
			}
			s = new(seen)
			if err := json.Unmarshal(data, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	wrong := 0
	for i := range n {
		if !s.maybe(fmt.Sprintf("op-%d", i)) {
			t.Fatalf("op-%d is forgotten", i)
		}
		if s.maybe(fmt.Sprintf("other-%d", i)) {
			wrong++
		}
	}
	if wrong > n/100 {
		t.Errorf("%d of %d unknown ids are taken for known", wrong, n)
	}
}
