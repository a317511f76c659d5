package submitter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func line(id string) string {
	return `{"op_id":"` + id + `","op_type":"modify_field","target_entity_id":"user-1",` + counter + `}`
}

func TestNDJSON(t *testing.T) {
	long := strings.Repeat(" ", op.MaxBody) + `{"x":"` + strings.Repeat("y", op.MaxBody) + `"}`
	longer := strings.Repeat("z", 2*readAhead+7)
	for _, c := range []struct {
		name, in string
		acked    []string
		refused  []string // "line code"
		lines    int
	}{
		{"empty", "", nil, nil, 0},
		{"lines", line("a") + "\n" + line("b") + "\n", []string{"a", "b"}, nil, 2},
		{"no newline at the end", line("a") + "\n" + line("b"), []string{"a", "b"}, nil, 2},
		{"blank lines, returns and a byte order mark", "\xef\xbb\xbf" + line("a") + "\r\n\r\n  \n" + line("b") + "\n", []string{"a", "b"}, nil, 4},
		{
			"bad lines", line("a") + "\n{\n[]\n" + line("b") + "\n" + `{"op_type":"x","target_entity_id":"u"}` + "\n",
			[]string{"a", "b"},
			[]string{"2 OPS-1001", "3 OPS-1017", "5 OPS-1008"},
			5,
		},
		{"no target", `{"op_type":"version_entity"}`, nil, []string{"1 OPS-1010"}, 1},
		{"bad params", `{"op_type":"modify_field","target_entity_id":"u","params":{}}`, nil, []string{"1 OPS-1014"}, 1},
		{"long line", line("a") + "\n" + long + "\n" + line("b") + "\n", []string{"a", "b"}, []string{"2 OPS-1005"}, 3},
		{"line longer than the buffer", longer + "\n" + line("b") + "\n", []string{"b"}, []string{"1 OPS-1005"}, 2},
		{"only a line longer than the buffer", longer, nil, []string{"1 OPS-1005"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newIntakeLog()
			var acked, refused []string
			sum, err := fake(l.publish).ReadNDJSON(t.Context(), strings.NewReader(c.in), NDJSONOptions{
				Pack:    PackOptions{Acked: func(ids []string) { acked = append(acked, ids...) }},
				Refused: func(e *LineError) { refused = append(refused, fmt.Sprintf("%d %s", e.Line, e.Err.Code)) },
			})
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(acked) != fmt.Sprint(c.acked) || fmt.Sprint(refused) != fmt.Sprint(c.refused) {
				t.Errorf("acked %v, refused %v", acked, refused)
			}
			if sum.Lines != c.lines || sum.Acked != len(c.acked) || sum.Refused != len(c.refused) {
				t.Errorf("%+v", sum)
			}
		})
	}
}

func TestNDJSONStopsAtTheFirstBadLine(t *testing.T) {
	l := newIntakeLog()
	sum, err := fake(l.publish).ReadNDJSON(t.Context(), strings.NewReader(line("a")+"\n{}\n"+line("b")), NDJSONOptions{})
	var bad *LineError
	if !errors.As(err, &bad) || bad.Line != 2 || code(err) != op.CodeMissingField || !strings.HasPrefix(err.Error(), "line 2: OPS-1010") {
		t.Fatalf("%v", err)
	}
	if !l.acked["a"] || l.sent["b"] || sum.Acked != 1 || sum.Lines != 2 || sum.Refused != 1 {
		t.Errorf("%+v; acked %v", sum, l.acked)
	}
}

// What a slow producer has written is durable before the next line is waited for.
func TestNDJSONDoesNotHoldBackASlowProducer(t *testing.T) {
	r, w := io.Pipe()
	l := newIntakeLog()
	acked := make(chan []string, 9)
	done := make(chan error, 1)
	go func() {
		_, err := fake(l.publish).ReadNDJSON(t.Context(), r, NDJSONOptions{Pack: PackOptions{Acked: func(ids []string) { acked <- ids }}})
		done <- err
	}()
	for _, id := range []string{"a", "b"} {
		if _, err := io.WriteString(w, line(id)+"\n"+line(id + "2")[:20]); err != nil { // and the beginning of another
			t.Fatal(err)
		}
		if got := <-acked; len(got) != 1 || got[0] != id {
			t.Errorf("%v", got)
		}
		if _, err := io.WriteString(w, line(id + "2")[20:]+"\n"); err != nil {
			t.Fatal(err)
		}
		if got := <-acked; len(got) != 1 || got[0] != id+"2" {
			t.Errorf("%v", got)
		}
	}
	broken := errors.New("disk on fire")
	w.CloseWithError(broken)
	if err := <-done; !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func TestNDJSONEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := fake(func(ctx context.Context, _ string, _ []byte, _ string) error { cancel(); return ctx.Err() })
	_, err := s.ReadNDJSON(ctx, bytes.NewBufferString(line("a")), NDJSONOptions{Refused: func(e *LineError) { t.Error(e) }})
	if err == nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
