package submitter

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// reportEvery is how often a load says how far it is.
const reportEvery = 2 * time.Second

// Load submits one NDJSON file and says what became of it.
type Load struct {
	File      string    // path, or "-" for In
	KeepGoing bool      // report bad lines and go on, instead of stopping at the first
	In        io.Reader // the standard input
	Out       io.Writer // gets a [LoadReport] as JSON
	Logger    *slog.Logger
}

// LoadReport is what became of a file.
type LoadReport struct {
	Type      string  `json:"type"` // LoadType
	Lines     int     `json:"lines"`
	Submitted int     `json:"submitted"` // durable
	Refused   int     `json:"refused"`
	Messages  int     `json:"messages"`
	Seconds   float64 `json:"seconds"`
}

// LoadType is the value of "type" in a [LoadReport].
const LoadType = "ops.v1.load_report"

// Run submits the file. The report is written in any case. The error is that of
// [Submitter.ReadNDJSON], or with KeepGoing the last bad line.
func (l *Load) Run(ctx context.Context, s *Submitter) error {
	in := l.In
	if l.File != "-" {
		f, err := os.Open(l.File)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		in = f
	}
	var last error
	started := time.Now()
	reported, full := started, false
	o := NDJSONOptions{Pack: PackOptions{Progress: func(p Progress) {
		if now := time.Now(); now.Sub(reported) >= reportEvery || p.Full && !full {
			reported = now
			l.Logger.Info("submitting", "submitted", p.Acked, "messages", p.Messages, "waiting_for_room", p.Full)
		}
		full = p.Full
	}}}
	if l.KeepGoing {
		o.Refused = func(e *LineError) {
			last = e
			l.Logger.Warn("line refused", "line", e.Line, "code", e.Err.Code, "error", e.Err.Message)
		}
	}
	sum, err := s.ReadNDJSON(ctx, in, o)
	if err == nil {
		err = last
	}
	body, merr := op.Marshal(LoadReport{
		Type: LoadType, Lines: sum.Lines, Submitted: sum.Acked, Refused: sum.Refused, Messages: sum.Messages,
		Seconds: time.Since(started).Seconds(),
	})
	if merr == nil {
		_, merr = fmt.Fprintf(l.Out, "%s\n", body)
	}
	if err == nil {
		err = merr
	}
	return err
}
