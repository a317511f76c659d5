package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// lineEvery is how often progress is told where there is no terminal.
const lineEvery = 5 * time.Second

const barWidth = 30

// progress shows how far something is: a bar that is drawn again and again on a
// terminal, a line every five seconds elsewhere. It is not safe for concurrent
// use.
type progress struct {
	w    io.Writer
	live bool
	told time.Time
	open bool // a bar stands on the current line
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, live: terminal(w), told: time.Now()}
}

// show tells that the part done (0 to 1) is done.
func (p *progress) show(done float64, text string) {
	done = max(0, min(1, done))
	if p.live {
		full := int(done * barWidth)
		fmt.Fprintf(p.w, "\r\x1b[K %s%s %3.0f %%  %s", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), done*100, text)
		p.open = true
		return
	}
	if now := time.Now(); now.Sub(p.told) >= lineEvery {
		p.told = now
		fmt.Fprintf(p.w, "%3.0f %%  %s\n", done*100, text)
	}
}

// end takes the bar away.
func (p *progress) end() {
	if p.open {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.open = false
	}
}
