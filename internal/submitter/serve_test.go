package submitter

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/service"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// serve runs the role until the test ends or stop is called, which waits.
func serve(t *testing.T, b *bus.Bus) (stop func()) {
	t.Helper()
	svc, err := service.Start(b.Conn(), service.Config{Role: "submitter", Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan bool, 2), make(chan error, 1)
	go func() {
		done <- Serve(ctx, ServeConfig{Submitter: New(Config{Bus: b}), Service: svc, Ready: func(on bool) { ready <- on }})
	}()
	if !<-ready {
		t.Fatal("not ready")
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if <-ready {
			t.Error("still ready")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func request(t *testing.T, b *bus.Bus, verb, body string, header ...string) *nats.Msg {
	t.Helper()
	m := nats.NewMsg(bus.APISubject(verb))
	m.Data = []byte(body)
	for i := 0; i < len(header); i += 2 {
		m.Header[header[i]] = []string{header[i+1]}
	}
	r, err := b.Conn().RequestMsg(m, longEnough)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func decode[T any](t *testing.T, m *nats.Msg) (v T) {
	t.Helper()
	if e := m.Header.Get(micro.ErrorHeader); e != "" {
		t.Fatalf("%s: %s", e, m.Data)
	}
	if err := json.Unmarshal(m.Data, &v); err != nil {
		t.Fatalf("%s: %v", m.Data, err)
	}
	return v
}

func TestEndpointAccepts(t *testing.T) {
	b := connect(t)
	serve(t, b)
	for _, header := range []string{"traceparent", "Traceparent", "TRACEPARENT"} {
		acc := decode[op.Accepted](t, request(t, b, "submit", `{"op_type":"version_entity","target_entity_id":"user-1","op_id":"`+header+`"}`, header, "00-abc"))
		if acc.Type != op.AcceptedType || len(acc.OpIDs) != 1 || acc.OpIDs[0] != header || acc.Seq == 0 {
			t.Errorf("%+v", acc)
		}
	}
	for _, o := range intake(t, b) {
		if o.trace != "00-abc" {
			t.Errorf("%s: trace %q", o.ID, o.trace)
		}
	}
	if help := string(request(t, b, "help", "").Data); !strings.Contains(help, "ops.api.submit") {
		t.Errorf("help: %s", help)
	}
}

func TestEndpointRefuses(t *testing.T) {
	b := connect(t)
	serve(t, b)
	ok := `"op_type":"modify_field","target_entity_id":"user-1",` + counter
	deep := strings.Repeat("[", 20) + strings.Repeat("]", 20)
	for _, c := range []struct{ code, verb, body, header, value string }{
		{op.CodeBadJSON, "submit", `{`, "", ""},
		{op.CodeBadJSON, "submit", ``, "", ""},
		{op.CodeUnknownField, "submit", `{` + ok + `,"colour":"red"}`, "", ""},
		{op.CodeWrongType, "submit", `{` + ok + `,"labels":"red"}`, "", ""},
		{op.CodeBadID, "submit", `{` + ok + `,"op_id":"a.b"}`, "", ""},
		{op.CodeBadID, "submit", `{"op_type":"version_entity","target_entity_id":"user.>"}`, "", ""},
		{op.CodeTooLarge, "submit", `{` + ok + `,"created_at":"` + strings.Repeat("x", op.MaxBody) + `"}`, "", ""},
		{op.CodeTooDeep, "submit", `{"op_type":"modify_field","target_entity_id":"user-1","params":{"field_name":"x","new_value":` + deep + `}}`, "", ""},
		{op.CodeDuplicateKey, "submit", `{` + ok + `,"op_id":"a","op_id":"b"}`, "", ""},
		{op.CodeUnknownType, "submit", `{"op_type":"fly","target_entity_id":"user-1"}`, "", ""},
		{op.CodeUnknownType, "submit", `{"op_type":"structure_follow_up","target_entity_id":"user-1"}`, "", ""},
		{op.CodeMissingField, "submit", `{"op_type":"version_entity"}`, "", ""},
		{op.CodeMissingField, "submit", `{"target_entity_id":"user-1"}`, "", ""},
		{op.CodeBadPriority, "submit", `{` + ok + `,"priority":"urgent"}`, "", ""},
		{op.CodeBadUTF8, "submit", "{" + ok + `,"submitter":"` + "\xff" + `"}`, "", ""},
		{op.CodeStringTooLong, "submit", `{` + ok + `,"submitter":"` + strings.Repeat("x", op.MaxString+1) + `"}`, "", ""},
		{op.CodeBadParams, "submit", `{"op_type":"modify_field","target_entity_id":"user-1","params":{}}`, "", ""},
		{op.CodeBadValue, "submit", `{` + ok + `,"max_retries":-1}`, "", ""},
		{op.CodeBadValue, "submit", `{` + ok + `}`, HeaderWait, "forever"},
		{op.CodeBadValue, "submit", `{` + ok + `}`, HeaderTimeout, "1 week"},
		{op.CodeBadValue, "submit", `{` + ok + `}`, HeaderTimeout, "-1s"},
		{op.CodeBadValue, "submit", `{` + ok + `}`, HeaderTimeout, "6m"},
		{op.CodeBadArray, "submit", `[]`, "", ""},
		{op.CodeBadArray, "submit", `[{"op_type":"version_entity","target_entity_id":"a"},{"op_type":"version_entity","target_entity_id":"b"}]`, "", ""},
		{op.CodeBadJSON, "cancel", `"a"`, "", ""},
		{op.CodeBadJSON, "cancel", `{"op_id":"a"} {}`, "", ""},
		{op.CodeBadJSON, "cancel", `{"op_id":"a","why":"because"}`, "", ""},
		{op.CodeTooLarge, "cancel", `{"op_id":"` + strings.Repeat("x", op.MaxBody) + `"}`, "", ""},
		{op.CodeMissingField, "cancel", `{}`, "", ""},
		{op.CodeBadID, "cancel", `{"op_id":"a b"}`, "", ""},
		{op.CodeBadID, "cancel", `{"op_id":"a","target_entity_id":"*"}`, "", ""},
		{op.CodeBadValue, "cancel", `{"op_id":"a"}`, HeaderWait, "x"},
		{op.CodeNotFound, "cancel", `{"op_id":"nobody"}`, "", ""},
	} {
		var header []string
		if c.header != "" {
			header = []string{c.header, c.value}
		}
		r := request(t, b, c.verb, c.body, header...)
		var e op.Error
		if err := json.Unmarshal(r.Data, &e); err != nil {
			t.Fatalf("%s: %v", r.Data, err)
		}
		if e.Code != c.code || e.Type != op.ErrorType || e.Message == "" || e.Hint == "" {
			t.Errorf("%s %.60s: %+v, want %s", c.verb, c.body, e, c.code)
		}
		if got := "OPS-" + r.Header.Get(micro.ErrorCodeHeader); got != c.code || r.Header.Get(micro.ErrorHeader) != e.Message {
			t.Errorf("%s %.60s: headers %v", c.verb, c.body, r.Header)
		}
	}
	if n := messages(t, b); n != 0 {
		t.Errorf("%d messages are stored", n)
	}
}

// tell writes a record and its event, as a resolver does.
func tell(t *testing.T, b *bus.Bus, id string, status op.Status) {
	t.Helper()
	rec, err := op.Marshal(op.Record{Type: op.RecordType, OpID: id, Target: "user-1", Status: status, Priority: op.Normal})
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, bus.RecordMsg(id, rec))
	event, err := op.Marshal(op.Event{Type: op.EventType, Name: op.EventCompleted, OpID: id, Target: "user-1"})
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, bus.EventMsg(bus.EventSubject(op.EventCompleted, "user-1"), "", event))
}

func TestWaitForTheEnd(t *testing.T) {
	b := connect(t)
	serve(t, b)
	answer := make(chan *nats.Msg, 1)
	go func() {
		m := nats.NewMsg("ops.api.submit")
		m.Data = []byte(`[{"op_id":"a","op_type":"version_entity","target_entity_id":"user-1"},{"op_id":"b","op_type":"version_entity","target_entity_id":"user-1"}]`)
		m.Header.Set(HeaderWait, "done")
		r, err := b.Conn().RequestMsg(m, longEnough)
		if err != nil {
			t.Error(err)
		}
		answer <- r
	}()
	heard, err := b.Conn().SubscribeSync("$JS.API.STREAM.MSG.GET.KV_OPS_OPERATIONS")
	if err != nil {
		t.Fatal(err)
	}
	look := func(id string) { // waits until the role looks at a record
		t.Helper()
		for {
			m, err := heard.NextMsg(longEnough)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(m.Data), "."+id+`"`) {
				return
			}
		}
	}
	look("a")
	tell(t, b, "a", op.Executing)
	look("b")
	tell(t, b, "a", op.Succeeded)
	look("b")
	if len(answer) > 0 {
		t.Fatal("answered before both had ended")
	}
	tell(t, b, "b", op.Rejected)
	r := <-answer
	v := decode[Waited](t, r)
	if !v.Done || len(v.OpIDs) != 2 || len(v.Records) != 2 || v.Records[0].Status != op.Succeeded || v.Records[1].Status != op.Rejected {
		t.Errorf("%s", r.Data)
	}
}

func TestWaitEndsInTime(t *testing.T) {
	b := connect(t)
	serve(t, b)
	body := `{"op_id":"a","op_type":"version_entity","target_entity_id":"user-1"}`
	v := decode[Waited](t, request(t, b, "submit", body, HeaderWait, "done", HeaderTimeout, "50ms"))
	if v.Done || len(v.OpIDs) != 1 || v.Seq == 0 || len(v.Records) != 0 {
		t.Errorf("%+v", v)
	}
}

func TestCancelFindsTheTarget(t *testing.T) {
	b := connect(t)
	serve(t, b)
	tell(t, b, "open", op.Pending)
	tell(t, b, "over", op.Succeeded)
	acc := decode[op.Accepted](t, request(t, b, "cancel", `{"op_id":"open"}`))
	if acc.Seq != 1 || acc.OpIDs[0] != "open" {
		t.Errorf("%+v", acc)
	}
	// What has ended is told at once, and nothing is stored.
	v := decode[Waited](t, request(t, b, "cancel", `{"op_id":"over"}`))
	if !v.Done || len(v.Records) != 1 || v.Records[0].Status != op.Succeeded || messages(t, b) != 1 {
		t.Errorf("%+v, %d messages", v, messages(t, b))
	}
	// A target in the request is believed: the record may not be there yet.
	if acc := decode[op.Accepted](t, request(t, b, "cancel", `{"op_id":"new","target_entity_id":"user-1"}`)); acc.Seq != 2 {
		t.Errorf("%+v", acc)
	}
}

// A role that stops answers who is waiting, and takes nobody in.
func TestDrain(t *testing.T) {
	b := connect(t)
	stop := serve(t, b)
	looked, err := b.Conn().SubscribeSync("$JS.API.STREAM.MSG.GET.KV_OPS_OPERATIONS")
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan *nats.Msg, 1)
	go func() {
		answer <- request(t, b, "submit", `{"op_id":"a","op_type":"version_entity","target_entity_id":"user-1"}`, HeaderWait, "done", HeaderTimeout, "5m")
	}()
	if _, err := looked.NextMsg(longEnough); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stop()
	if v := decode[Waited](t, <-answer); v.Done || v.Seq == 0 {
		t.Errorf("%+v", v)
	}
	if took := time.Since(began); took > longEnough {
		t.Errorf("draining took %s", took)
	}
	if _, err := b.Conn().Request("ops.api.submit", []byte(`{}`), longEnough); err == nil {
		t.Error("a stopped role answers")
	}
}

// A request that arrives while the last ones are being answered is told so.
func TestTooLate(t *testing.T) {
	b := connect(t)
	v := &server{s: New(Config{Bus: b}), slots: make(chan struct{}, 1)}
	if !v.close(longEnough) {
		t.Fatal("not closed")
	}
	r := &recorder{}
	v.in(endpoint{handle: v.submit})(r)
	if r.code != "1019" {
		t.Errorf("answered %q", r.code)
	}
}

// Where there is no room, a submission is refused though nobody can be let in; all
// that may be right or wrong with others is left to the endpoint.
func TestWhatHasNoRoomWaitsForNobody(t *testing.T) {
	b := connect(t)
	s := New(Config{Bus: b})
	s.book.now.Store(builtin())
	v := &server{s: s, slots: make(chan struct{})} // a slot would be waited for, for ever
	full := `{"op_type":"version_entity","target_entity_id":"user-1"}`
	ask := func(body string) *recorder { return &recorder{body: body, reply: nats.NewInbox()} }
	if err := v.turnAway(ask(full)); err != nil {
		t.Errorf("turned away without news: %v", err)
	}
	s.news.hear(bus.Load{
		Partition: bus.PartitionOf("user-1", s.partitions), MaxOpen: 1000, MaxStaged: 100, RetryAfterMS: 77, Targets: map[string]int{"user-1": 90},
	})
	r := ask(full)
	answers, err := b.Conn().SubscribeSync(r.reply)
	if err != nil {
		t.Fatal(err)
	}
	v.in(v.endpoints()[0])(r)
	a, err := answers.NextMsg(longEnough)
	if err != nil {
		t.Fatal(err)
	}
	var e op.Error
	if err := json.Unmarshal(a.Data, &e); err != nil || e.Code != op.CodeOverloaded || e.RetryAfterMS != 77 || a.Header.Get(micro.ErrorCodeHeader) != "1021" {
		t.Errorf("answered %s %v", a.Data, a.Header)
	}
	odd := ask(full)
	odd.headers = micro.Headers{HeaderWait: {"for ever"}}
	for name, r := range map[string]*recorder{
		"another target": ask(`{"op_type":"version_entity","target_entity_id":"user-2"}`),
		"no JSON":        ask(`{"op_type":"version_entity","target_entity_id":"user-1"`),
		"no such type":   ask(`{"op_type":"polish","target_entity_id":"user-1"}`),
		"a wrong header": odd,
	} {
		if err := v.turnAway(r); err != nil {
			t.Errorf("%s: turned away: %v", name, err)
		}
	}
}

// recorder is a request that remembers the code of its answer.
type recorder struct {
	micro.Request
	body, reply, code string
	headers           micro.Headers
}

func (r *recorder) Data() []byte           { return []byte(r.body) }
func (r *recorder) Reply() string          { return r.reply }
func (r *recorder) Headers() micro.Headers { return r.headers }

func (r *recorder) Error(code, _ string, _ []byte, _ ...micro.RespondOpt) error {
	r.code = code
	return nil
}
