package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// fileReport is what became of a file.
type fileReport struct {
	Type      string         `json:"type"`
	Lines     int            `json:"lines"`
	Empty     bool           `json:"empty,omitempty"` // there was nothing but blank lines
	Refused   int            `json:"refused"`         // bad lines
	Submitted int            `json:"submitted"`       // durable
	Messages  int            `json:"messages"`        // intake messages they took
	Waited    bool           `json:"waited"`
	Succeeded int            `json:"succeeded"`
	Rejected  int            `json:"rejected"`
	Cancelled int            `json:"cancelled"`
	Open      int            `json:"open"`
	Reasons   map[string]int `json:"reasons,omitempty"`
	Seconds   float64        `json:"seconds"`
	Rate      float64        `json:"rate"` // operations a second, to the end of what was waited for
}

// fileLoad is one `submit -f` under way.
type fileLoad struct {
	*submitOptions
	app     *app
	bar     *progress
	watch   *await.Watch // nil without --wait
	ids     []string
	size    int64 // of the file; 0 where that is unknown
	read    *counter
	refused int
}

func (a *app) submitFile(ctx context.Context, b *bus.Bus, o *submitOptions) error {
	l := &fileLoad{submitOptions: o, app: a, bar: newProgress(a.errs)}
	in, done, err := l.open()
	if err != nil {
		return err
	}
	defer done()
	if o.wait {
		l.watch = await.Start(ctx, b)
		defer l.watch.Stop()
	}
	began := time.Now()
	sum, err := l.send(ctx, b, in)
	l.bar.end()
	var late error
	if err == nil && o.wait {
		late = l.follow(ctx)
		l.bar.end()
	}
	r := l.report(sum, err, time.Since(began))
	if perr := a.print(r, r.show, l.ids...); perr != nil {
		return perr
	}
	return l.verdict(r, err, late)
}

// open opens the input and lays the overrides over it.
func (l *fileLoad) open() (io.Reader, func(), error) {
	overrides, err := l.overrides()
	if err != nil {
		return nil, nil, err
	}
	in, done := l.app.in, func() {}
	if l.file != "-" {
		f, err := openInput("file", l.file)
		if err != nil {
			return nil, nil, err
		}
		done = func() { _ = f.Close() } // only read
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			l.size = st.Size()
		}
		in = f
	}
	l.read = &counter{r: in}
	if len(overrides) > 0 {
		return newOverlay(l.read, overrides), done, nil
	}
	return l.read, done, nil
}

func (l *fileLoad) overrides() (map[string]json.RawMessage, error) {
	m := map[string]json.RawMessage{}
	for _, s := range l.override {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, usagef("--override %q is not field=value", s)
		}
		raw, err := op.Marshal(valueOf(value))
		if err != nil {
			return nil, err
		}
		m[name] = raw
	}
	return m, nil
}

func (l *fileLoad) send(ctx context.Context, b *bus.Bus, in io.Reader) (submitter.Summary, error) {
	o := submitter.NDJSONOptions{Pack: submitter.PackOptions{
		Progress: func(p submitter.Progress) { l.show(p) },
		Acked: func(ids []string) {
			if l.watch != nil {
				l.watch.Expect(ids...)
			}
			if l.app.output == asName {
				l.ids = append(l.ids, ids...)
			}
		},
	}}
	if l.keepGoing {
		o.Refused = func(e *submitter.LineError) {
			l.refused++
			l.bar.end()
			fmt.Fprintln(l.app.errs, "hierarchy:", e)
		}
	}
	return submitter.New(submitter.Config{Bus: b}).ReadNDJSON(ctx, in, o)
}

func (l *fileLoad) show(p submitter.Progress) {
	text := fmt.Sprintf("%d submitted", p.Acked)
	if l.watch != nil {
		text += fmt.Sprintf(", %d open", l.watch.Counts().Open())
	}
	if p.Full {
		text += ", the log is full: waiting for room"
	}
	done := 0.0
	if l.size > 0 {
		done = float64(l.read.n) / float64(l.size)
	}
	l.bar.show(done, text)
}

// follow waits for the ends and shows how many are missing.
func (l *fileLoad) follow(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- waitFor(ctx, l.watch, l.timeout) }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			c := l.watch.Counts()
			l.bar.show(1-float64(c.Open())/float64(max(c.Expected, 1)), fmt.Sprintf("%d submitted, %d open", c.Expected, c.Open()))
		}
	}
}

func (l *fileLoad) report(sum submitter.Summary, err error, took time.Duration) *fileReport {
	r := &fileReport{
		Type: "ops.v1.submit_report", Lines: sum.Lines, Refused: sum.Refused, Submitted: sum.Acked,
		Messages: sum.Messages, Seconds: took.Seconds(),
	}
	if took > 0 {
		r.Rate = float64(r.Submitted) / took.Seconds()
	}
	r.Empty = err == nil && sum.Acked == 0 && sum.Refused == 0
	if l.watch != nil {
		c := l.watch.Counts()
		r.Waited, r.Succeeded, r.Rejected, r.Cancelled, r.Open = true, c.Succeeded, c.Rejected, c.Cancelled, c.Open()
		r.Reasons = l.watch.Reasons()
	}
	return r
}

func (r *fileReport) show(w io.Writer) {
	if r.Empty {
		fmt.Fprintln(w, "the input is empty: there was nothing to submit")
		return
	}
	fmt.Fprintf(w, "%d operations submitted in %d messages, %.2f s, %.0f/s\n", r.Submitted, r.Messages, r.Seconds, r.Rate)
	if r.Refused > 0 {
		fmt.Fprintf(w, "%s refused\n", plural(r.Refused, "line"))
	}
	if !r.Waited {
		return
	}
	fmt.Fprintf(w, "%d = %d succeeded + %d rejected + %d cancelled + %d open\n",
		r.Submitted, r.Succeeded, r.Rejected, r.Cancelled, r.Open)
	for _, reason := range sortedKeys(r.Reasons) {
		fmt.Fprintf(w, "  %s %d\n", reason, r.Reasons[reason])
	}
}

// verdict chooses the exit code: what went wrong first counts, then the worst
// end.
func (l *fileLoad) verdict(r *fileReport, err, late error) error {
	if err = errors.Join(err, late); err != nil {
		return err
	}
	codes := map[int]bool{}
	for reason := range r.Reasons {
		status := op.Rejected
		if reason == string(op.CancelledByRequest) || reason == string(op.CancelledWithParent) {
			status = op.Cancelled
		}
		codes[exitOf(status, op.Reason(reason))] = true
	}
	if r.Refused > 0 {
		codes[daemon.ExitUsage] = true
	}
	return silently(worst(codes))
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// overlay sets fields in every line of NDJSON. A line that is not an object
// passes as it is, for the submitter to refuse.
type overlay struct {
	lines  *bufio.Reader
	fields map[string]json.RawMessage
	ready  bytes.Buffer
	err    error
}

// overlaySize is how much is read and handed on at once: a reader that gets many
// lines together can pack them together.
const overlaySize = 1 << 20

func newOverlay(r io.Reader, fields map[string]json.RawMessage) *overlay {
	return &overlay{lines: bufio.NewReaderSize(r, overlaySize), fields: fields}
}

// Read implements io.Reader.
func (o *overlay) Read(p []byte) (int, error) {
	for o.err == nil && (o.ready.Len() == 0 || o.ready.Len() < len(p) && o.more()) {
		o.next()
	}
	if o.ready.Len() == 0 {
		return 0, o.err
	}
	return o.ready.Read(p)
}

// more reports whether a whole line is in memory.
func (o *overlay) more() bool {
	ahead, err := o.lines.Peek(o.lines.Buffered())
	return err == nil && bytes.IndexByte(ahead, '\n') >= 0
}

// next lays the fields over one line.
func (o *overlay) next() {
	line, err := o.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		// Longer than any submission: passed on in pieces, to be refused.
		o.ready.Write(line)
		return
	}
	o.err = err
	var m map[string]json.RawMessage
	if json.Unmarshal(line, &m) != nil || m == nil {
		o.ready.Write(line)
		return
	}
	maps.Copy(m, o.fields)
	if out, err := op.Marshal(m); err == nil {
		line = out
	}
	o.ready.Write(line)
	o.ready.WriteByte('\n')
}
