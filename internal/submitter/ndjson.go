package submitter

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// readAhead is how much of an NDJSON stream is read at once. What has been read
// is sent before a read that may wait, so that a slow producer's operations do
// not lie about.
const readAhead = 1 << 20

// LineError is a mistake in one line of an NDJSON stream.
type LineError struct {
	Line int // from 1
	Err  *op.Error
}

// Error names the line.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the mistake.
func (e *LineError) Unwrap() error { return e.Err }

// NDJSONOptions say how to read a stream of operations.
type NDJSONOptions struct {
	Pack PackOptions
	// Refused, if set, is told about each bad line, and reading goes on. If it
	// is nil, reading stops at the first bad line.
	Refused func(*LineError)
}

// Summary is what became of an NDJSON stream.
type Summary struct {
	Progress
	Lines   int // read, blank ones included
	Refused int // bad lines
}

// ReadNDJSON submits a stream of operations, one JSON object a line, in order
// (see [Packer]). Blank lines are skipped; a line has at most [op.MaxBody] bytes.
// It follows the policy meanwhile, waits while there is no room, and returns when
// everything read is durable. The error is a [*LineError] when it stopped at a bad
// line: all lines before it are durable then. Otherwise it is the reader's or that
// of [Packer.Add].
func (s *Submitter) ReadNDJSON(ctx context.Context, r io.Reader, o NDJSONOptions) (Summary, error) {
	following, stop := context.WithCancel(ctx)
	defer stop()
	if err := s.follow(following); err != nil {
		return Summary{}, err
	}
	p := s.NewPacker(o.Pack)
	lines := lineReader{r: bufio.NewReaderSize(r, readAhead)}
	refused := 0
	var failed error
	for failed == nil {
		if lines.mayWait() {
			if failed = p.Flush(ctx); failed != nil {
				break
			}
		}
		line, tooLong, err := lines.next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				failed = fmt.Errorf("submitter: read: %w", err)
			}
			break
		}
		if !tooLong && len(line) == 0 {
			continue
		}
		err = s.addLine(ctx, p, line, tooLong)
		s.count("ndjson", err)
		bad := op.AsError(err)
		switch {
		case err == nil:
			continue
		case bad == nil || p.Err() != nil:
			failed = err
		case o.Refused == nil:
			refused++
			failed = &LineError{Line: lines.n, Err: bad}
		default:
			refused++
			o.Refused(&LineError{Line: lines.n, Err: bad})
		}
	}
	if err := p.Flush(ctx); err != nil && (failed == nil || !errors.Is(failed, err)) {
		failed = errors.Join(failed, err)
	}
	return Summary{Progress: p.Progress(), Lines: lines.n, Refused: refused}, failed
}

func (s *Submitter) addLine(ctx context.Context, p *Packer, line []byte, tooLong bool) error {
	if tooLong {
		return op.Errorf(op.CodeTooLarge, "", "the line has more than %d bytes", op.MaxBody)
	}
	if line[0] == '[' {
		return op.Errorf(op.CodeBadArray, "", "a line holds one operation, not an array")
	}
	var ops []op.Operation
	err := s.book.under(ctx, func(r *rules) (err error) {
		ops, err = op.Decode(line, "", r.types.Types())
		return err
	})
	if err != nil {
		return err
	}
	_, err = p.Add(ctx, ops[0])
	return err
}

// lineReader reads lines of bounded length.
type lineReader struct {
	r *bufio.Reader
	n int // lines read
}

// mayWait reports whether the next line is not in memory yet.
func (l *lineReader) mayWait() bool {
	n := l.r.Buffered()
	if n == 0 {
		return true
	}
	ahead, err := l.r.Peek(n)
	return err == nil && bytes.IndexByte(ahead, '\n') < 0
}

// next returns the next line without the blanks around it, valid until the call
// after. A line longer than op.MaxBody is passed over. The last line needs no
// newline.
func (l *lineReader) next() (line []byte, tooLong bool, err error) {
	line, err = l.r.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		tooLong = true
		_, err = l.r.ReadSlice('\n')
	}
	if errors.Is(err, io.EOF) && (len(line) > 0 || tooLong) {
		err = nil
	}
	if err != nil {
		return nil, false, err
	}
	l.n++
	if l.n == 1 {
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) // some editors write it
	}
	line = bytes.Trim(line, " \t\r\n")
	return line, tooLong || len(line) > op.MaxBody, nil
}
