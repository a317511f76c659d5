package observer

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// consoleLines is how many lines a second a person can be shown.
const consoleLines = 20

// Console writes lines for a person. When they come too fast it leaves lines out
// and says how many. It is safe for concurrent use.
type Console struct {
	w io.Writer

	mu     sync.Mutex
	second int64
	shown  int
	hidden int
	err    error
}

// NewConsole returns a console on w that shows at most 20 lines a second.
func NewConsole(w io.Writer) *Console { return &Console{w: w} }

// Show writes a line, or counts it when too many have been shown in the second of
// now. Quiet lines are written, too: leaving them out is a matter of [Filter].
func (c *Console) Show(now time.Time, l Line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(now)
	if c.shown >= consoleLines {
		c.hidden++
		return
	}
	c.shown++
	c.printf("%s  %s\n", l.At.Local().Format("15:04:05.000"), l.Text)
}

// Flush says what was left out in the seconds before now. Call it about once a
// second, since after the last line nobody else does.
func (c *Console) Flush(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(now)
}

// Err is the first error of the writer; after it nothing is written.
func (c *Console) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// turn begins the second of now. The lock is held.
func (c *Console) turn(now time.Time) {
	s := now.Unix()
	if s == c.second {
		return
	}
	if c.hidden > 0 {
		c.printf("              … and %d more in that second\n", c.hidden)
	}
	c.second, c.shown, c.hidden = s, 0, 0
}

func (c *Console) printf(format string, args ...any) {
	if c.err == nil {
		_, c.err = fmt.Fprintf(c.w, format, args...)
	}
}
