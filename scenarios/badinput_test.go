package scenarios

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// badInput is one kind of mistake and the code that names it.
var badInput = []struct{ kind, body, code string }{
	{"broken JSON", `{"op_type":`, op.CodeBadJSON},
	{"text after the value", `{"op_type":"version_entity"} x`, op.CodeBadJSON},
	{"unknown field", `{"op_type":"version_entity","colour":1}`, op.CodeUnknownField},
	{"wrong type", `{"op_type":7}`, op.CodeWrongType},
	{"id with a dot", `{"op_type":"version_entity","op_id":"a.b"}`, op.CodeBadID},
	{"id with a star", `{"op_type":"version_entity","op_id":"a*"}`, op.CodeBadID},
	{"id with a greater-than sign", `{"op_type":"version_entity","op_id":">"}`, op.CodeBadID},
	{"oversize", `{"op_type":"version_entity","labels":{"x":"` + strings.Repeat("x", op.MaxBody) + `"}}`, op.CodeTooLarge},
	{"deep nesting", `{"op_type":"create_entity","params":{"fields":{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}}}`, op.CodeTooDeep},
	{"duplicate key", `{"op_type":"version_entity","op_type":"delete_entity"}`, op.CodeDuplicateKey},
	{"unknown type", `{"op_type":"nonsense"}`, op.CodeUnknownType},
	{"internal type", `{"op_type":"structure_follow_up"}`, op.CodeUnknownType},
	{"missing type", `{"op_id":"x"}`, op.CodeMissingField},
	{"bad priority", `{"op_type":"version_entity","priority":"URGENT"}`, op.CodeBadPriority},
	{"not UTF-8", "{\"op_type\":\"version_entity\",\"submitter\":\"\xff\"}", op.CodeBadUTF8},
	{"target differs", `{"op_type":"version_entity","target_entity_id":"elsewhere"}`, op.CodeTargetDiffers},
}

// Whatever is wrong is told with a code to whoever can be answered, is a durable
// event for everybody else, stops nobody, and is counted once.
func TestBadInputIsToldAndCounted(t *testing.T) {
	s := newSite(t, quick)
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	s.resolver("r1")
	s.executor("x1")
	s.start("submitter", "--server", s.url, "--name", "s1")
	s.start("observer", "--server", s.url, "--name", "o1", "--http", addr)
	nc := s.bus.Conn()
	for _, c := range badInput {
		if c.kind == "target differs" {
			continue // a request has no subject to differ from
		}
		t.Run("answered: "+c.kind, func(t *testing.T) { answered(t, s, nc, c.body, c.code) })
	}
	for _, c := range badInput {
		if _, err := s.bus.Publish(t.Context(), bus.SubmitSubject("door"), []byte(c.body), "", nil); err != nil {
			t.Fatalf("%s: %v", c.kind, err)
		}
	}
	good := fmt.Sprintf(`{"op_id":%q,"op_type":"create_entity"}`, "good")
	if _, err := s.bus.Publish(t.Context(), bus.SubmitSubject("door"), []byte(good), "", nil); err != nil {
		t.Fatal(err)
	}
	counts := s.settle(30*time.Second, &load{ids: []string{"good"}})
	if counts[op.Succeeded] != 1 {
		t.Errorf("the partition did not go on: %v", counts)
	}
	s.eventually(30*time.Second, "an event for each", func() bool { return s.events(op.EventInvalid) == len(badInput) })
	s.eventually(30*time.Second, "the observer to have counted each", func() bool {
		return scrape(t, addr, "ops_invalid_submissions_total") == len(badInput)
	})
	want := map[string]int{}
	for _, c := range badInput {
		want[c.code]++
	}
	for code, n := range want {
		if got := scrape(t, addr, `ops_invalid_submissions_total{code="`+code+`"}`); got != n {
			t.Errorf("%d submissions are counted with %s, want %d", got, code, n)
		}
	}
	s.verify()
}

// answered sends a body to the submitter and expects a coded error.
func answered(t *testing.T, s *site, nc *nats.Conn, body, code string) {
	t.Helper()
	if strings.HasPrefix(body, `{"op_type"`) && !strings.Contains(body, "target_entity_id") {
		body = strings.Replace(body, `{"op_type"`, `{"target_entity_id":"door","op_type"`, 1)
	} else if body == `{"op_id":"x"}` {
		body = `{"op_id":"x","target_entity_id":"door"}`
	}
	var m *nats.Msg
	s.eventually(20*time.Second, "the submitter to answer", func() bool {
		var err error
		m, err = nc.Request("ops.api.submit", []byte(body), 5*time.Second)
		return err == nil
	})
	var e op.Error
	if err := json.Unmarshal(m.Data, &e); err != nil {
		t.Fatalf("%v: %.200s", err, m.Data)
	}
	if e.Type != op.ErrorType || e.Code != code || e.Hint == "" {
		t.Errorf("%+v, want code %s and a hint", e, code)
	}
	if m.Header.Get("Nats-Service-Error-Code") == "" {
		t.Error("the answer is not marked as an error for NATS clients")
	}
}

// scrape sums the samples of a metric whose name, with labels or without, begins
// with prefix. Without an answer it is -1.
func scrape(t *testing.T, addr, prefix string) int {
	t.Helper()
	r, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		return -1
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return -1
	}
	sum := 0
	for _, m := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(prefix)+`.* (\d+)$`).FindAllSubmatch(text, -1) {
		var n int
		if _, err := fmt.Sscan(string(m[1]), &n); err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}
