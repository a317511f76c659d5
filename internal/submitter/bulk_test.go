package submitter

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestBulkEndpoint(t *testing.T) {
	b := connect(t)
	serve(t, b)
	var lines []string
	for i := range 40 {
		lines = append(lines, fmt.Sprintf(`{"op_id":"o%d","op_type":"version_entity","target_entity_id":"user-%d"}`, i, i%10))
	}
	lines[3] = `{"op_id":"o3","op_type":"fly","target_entity_id":"user-3"}`
	lines[4] = `{"op_type":"version_entity","target_entity_id":"user-4"}`
	lines[5] = `{"op_id":"o5","op_type":"modify_field","target_entity_id":"user-5","params":{}}`
	lines[6] = `7`
	a := decode[BulkAnswer](t, request(t, b, "bulk", "["+strings.Join(lines, ",")+"]", "traceparent", "00-bulk"))
	if a.Type != BulkType || len(a.Results) != len(lines) {
		t.Fatalf("%+v", a)
	}
	in := map[string]uint64{}
	for _, o := range intake(t, b) {
		in[o.ID] = o.seq
		if o.trace != "00-bulk" {
			t.Errorf("%s: trace %q", o.ID, o.trace)
		}
	}
	bad := map[int]string{3: op.CodeUnknownType, 5: op.CodeBadParams, 6: op.CodeWrongType}
	for i, r := range a.Results {
		switch want := bad[i]; {
		case want != "":
			if r.Error == nil || r.Error.Code != want || r.Error.Hint == "" || r.Seq != 0 {
				t.Errorf("%d: %+v", i, r)
			}
		case r.Error != nil || r.Seq == 0 || r.OpID == "" || in[r.OpID] != r.Seq:
			t.Errorf("%d: %+v, stored at %d", i, r, in[r.OpID])
		}
	}
	if len(in) != len(lines)-len(bad) || messages(t, b) > testPartitions {
		t.Errorf("%d operations in %d messages", len(in), messages(t, b))
	}
	var e op.Error
	if r := request(t, b, "bulk", `{"op_type":"version_entity"}`); json.Unmarshal(r.Data, &e) != nil || e.Code != op.CodeBadJSON {
		t.Errorf("%s", r.Data)
	}
}

// One partition without an answer, one without room: each operation is told what
// is known about it.
func TestWhatABulkIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := bus.PartitionOf("user-1", testPartitions), -1
		other := ""
		for i := 2; second < 0 || second == first; i++ {
			other = fmt.Sprintf("user-%d", i)
			second = bus.PartitionOf(other, testPartitions)
		}
		s := fake(func(_ context.Context, subject string, _ []byte, _ string) error {
			if strings.HasSuffix(subject, ".user-1") {
				return bus.ErrUnknownOutcome
			}
			return nil
		})
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				s.news.hear(bus.Load{Partition: second, Open: 9, MaxOpen: 10, RetryAfterMS: 77})
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		a, err := s.Bulk(ctx, []byte(`[{"op_id":"a","op_type":"version_entity","target_entity_id":"user-1"},`+
			`{"op_id":"b","op_type":"version_entity","target_entity_id":"`+other+`"}]`), "")
		if err != nil || len(a.Results) != 2 {
			t.Fatal(a, err)
		}
		if e := a.Results[0].Error; e == nil || e.Code != op.CodeUnavailable {
			t.Errorf("without an answer: %+v", e)
		}
		if e := a.Results[1].Error; e == nil || e.Code != op.CodeOverloaded || e.RetryAfterMS != 77 {
			t.Errorf("without room: %+v", e)
		}
	})
}
