package submitter

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// FuzzNDJSON: of a stream of lines each one is blank, accepted or refused with its
// number and a code, and what is accepted is published once, as something that the
// codec reads.
func FuzzNDJSON(f *testing.F) {
	for _, s := range []string{
		line("a") + "\n" + line("b") + "\n", "\xef\xbb\xbf" + line("a") + "\r\n\r\n  \n" + line("b"), line("a") + "\n{\n[]\n" + line("b") + "\n\n",
		`{"op_type":"version_entity"}`, "\n\n\n", "\x00", line("a") + line("b"), line("a") + "\n" + line("a") + "\n", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		stored := map[string]int{}
		var mu sync.Mutex
		s := fake(func(_ context.Context, subject string, body []byte, _ string) error {
			ops, errs, err := op.DecodeBulk(body, op.BuiltinTypes())
			if target, alone := strings.CutPrefix(subject, "ops.submit."); alone {
				ops, err = op.Decode(body, target, op.BuiltinTypes())
				errs = make([]*op.Error, len(ops))
			}
			if err != nil {
				t.Errorf("published on %s: %s: %v", subject, body, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range ops {
				if errs[i] != nil || ops[i].ID == "" {
					t.Errorf("published %s: %v", body, errs[i])
				}
				stored[ops[i].ID]++
			}
			return nil
		})
		acked, refused, last := 0, 0, 0
		sum, err := s.ReadNDJSON(t.Context(), bytes.NewReader(data), NDJSONOptions{
			Pack: PackOptions{Acked: func(ids []string) {
				acked += len(ids)
				mu.Lock()
				defer mu.Unlock()
				for _, id := range ids {
					if stored[id] == 0 {
						t.Errorf("%s is acknowledged and was not published", id)
					}
				}
			}},
			Refused: func(e *LineError) {
				refused++
				if e.Line <= last || e.Err.Code == "" || e.Err.Hint == "" {
					t.Errorf("line %d after line %d: %+v", e.Line, last, e.Err)
				}
				last = e.Line
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(data, []byte("\n"))
		if len(lines[len(lines)-1]) == 0 {
			lines = lines[:len(lines)-1]
		}
		blank := 0
		for i, l := range lines {
			if i == 0 {
				l = bytes.TrimPrefix(l, []byte("\xef\xbb\xbf"))
			}
			if len(bytes.Trim(l, " \t\r\n")) == 0 {
				blank++
			}
		}
		if sum.Lines != len(lines) || sum.Acked != acked || sum.Refused != refused || acked+refused+blank != len(lines) {
			t.Fatalf("%d lines, %d of them blank: %+v", len(lines), blank, sum)
		}
		total := 0
		for _, n := range stored {
			total += n
		}
		if total != acked {
			t.Fatalf("%d are published, %d acknowledged", total, acked)
		}
	})
}
