package submitter

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestLoad(t *testing.T) {
	text := line("a") + "\n{}\n" + line("b") + "\n"
	file := filepath.Join(t.TempDir(), "ops.ndjson")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		load Load
		want LoadReport
	}{
		{"stops", Load{File: file}, LoadReport{Lines: 2, Submitted: 1, Refused: 1, Messages: 1}},
		{"keeps going", Load{File: "-", KeepGoing: true}, LoadReport{Lines: 3, Submitted: 2, Refused: 1, Messages: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, logs bytes.Buffer
			c.load.In, c.load.Out, c.load.Logger = strings.NewReader(text), &out, slog.New(slog.NewTextHandler(&logs, nil))
			err := c.load.Run(t.Context(), fake(newIntakeLog().publish))
			if code(err) != op.CodeMissingField || !strings.HasPrefix(err.Error(), "line 2: ") {
				t.Errorf("%v", err)
			}
			var got LoadReport
			if err := json.Unmarshal(out.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			c.want.Type, got.Seconds = LoadType, 0
			if got != c.want {
				t.Errorf("%+v", got)
			}
			if told := strings.Contains(logs.String(), "OPS-1010"); told != c.load.KeepGoing {
				t.Errorf("log: %s", &logs)
			}
		})
	}
	if err := (&Load{File: "/does/not/exist"}).Run(t.Context(), nil); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}
