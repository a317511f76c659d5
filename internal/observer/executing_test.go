package observer

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TestExecuting: an attempt is listed with the lease that it has now, and not
// after it has ended.
func TestExecuting(t *testing.T) {
	s := newScript()
	grant := func(id, target string, ends time.Time) arbiter.Effect {
		e := granted(id, target, 2)
		e.Granted.LeaseEnds = ends
		return e
	}
	s.step(ms(0), []arbiter.Input{submit("a", "x", 5), submit("b", "y", 5)}, accepted("a"), accepted("b"))
	s.step(ms(10), nil, grant("a", "x", ms(1010)), grant("b", "y", ms(510)))
	s.step(ms(500), nil, arbiter.Effect{Extended: &arbiter.Extended{OpID: "b", Target: "y", Attempt: 2, LeaseEnds: ms(1500)}})
	x := s.p.executing()
	if len(x.Attempts) != 2 || x.Attempts[0].OpID != "a" || x.Attempts[1].LeaseEnds != ms(1500) || x.Attempts[0].Attempt != 2 {
		t.Fatalf("%+v", x)
	}
	if b := x.Attempts[1]; b.BeatenAt == nil || !b.BeatenAt.Equal(ms(500)) || x.Attempts[0].BeatenAt != nil || b.Owner != "resolver-1" {
		t.Errorf("%+v", x)
	}
	if st := s.p.stats(ms(2010)); st.Overdue != 1 {
		t.Errorf("overdue for %v s, want 1", st.Overdue)
	}
	for after, want := range map[int]string{
		1000: "running running", 1011: "overdue running", 1501: "overdue overdue", 3010: "overdue overdue", 3011: "stuck overdue", 9999: "stuck stuck",
	} {
		r := Recover(x, []string{"resolver-1"}, ms(after), 2*time.Second)
		if got := string(r.Attempts[0].State) + " " + string(r.Attempts[1].State); got != want || r.Stuck != strings.Count(want, "stuck") {
			t.Errorf("after %d ms: %s, want %s", after, got, want)
		}
	}
	s.step(ms(2000), []arbiter.Input{result("a", "x", "")}, succeeded("a", "x", 0))
	if x := s.p.executing(); len(x.Attempts) != 1 {
		t.Errorf("%+v", x)
	}
}

// TestReadExecuting reads the same from the journal, without an observer.
func TestReadExecuting(t *testing.T) {
	j := newJournal(t)
	j.duel("user-42", "a", "b")
	x, err := ReadExecuting(j.ctx, j.b)
	if err != nil || len(x.Attempts) != 1 || x.Attempts[0].OpID != "a" || x.JournalSeq != 2 {
		t.Errorf("%+v, %v", x, err)
	}
}

// TestTrace: the last events, the oldest first, and as many as fit into an answer.
func TestTrace(t *testing.T) {
	j := newJournal(t)
	if empty, err := ReadTrace(j.ctx, j.b, 10); err != nil || len(empty.Events) != 0 || empty.From != 0 {
		t.Errorf("an empty feed: %+v, %v", empty, err)
	}
	for i := range 5 {
		j.out.Add(bus.EventMsg(bus.EventSubject(op.EventSubmitted, "x"), "", []byte(`{"n":`+strconv.Itoa(i)+`}`)))
	}
	if err := j.out.Flush(j.ctx); err != nil {
		t.Fatal(err)
	}
	got, err := ReadTrace(j.ctx, j.b, 3)
	if err != nil || len(got.Events) != 3 || string(got.Events[0]) != `{"n":2}` || got.From != 3 || got.To != 5 || got.Cut {
		t.Errorf("%+v, %v", got, err)
	}
	if all, err := ReadTrace(j.ctx, j.b, 99); err != nil || len(all.Events) != 5 || all.From != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if got.shorten(16); len(got.Events) != 2 || got.From != 4 || !got.Cut || string(got.Events[1]) != `{"n":4}` {
		t.Errorf("shortened: %+v", got)
	}
	o := j.observe(nil)
	for query, want := range map[string]string{"": `"from":1,"to":5`, "?last=1": `"from":5,"to":5`, "?last=0": "OPS-1015", "?last=many": "OPS-1015"} {
		w := httptest.NewRecorder()
		o.TraceHandler().ServeHTTP(w, httptest.NewRequest("GET", "/trace"+query, nil))
		if (w.Code == 200) != strings.HasPrefix(want, `"from"`) || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q: %d %s", query, w.Code, w.Body)
		}
	}
	m, err := j.b.Conn().RequestWithContext(j.ctx, bus.APISubject("trace"), []byte("2"))
	if err != nil || !strings.Contains(string(m.Data), `"from":4,"to":5`) {
		t.Errorf("%v", err)
	}
}
