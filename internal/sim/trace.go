package sim

import (
	"fmt"
	"io"
	"time"
)

// trace is what has happened, action by action. It is kept as data and written
// as text only when somebody wants to read it.
type trace struct {
	acts []act
	hash uint64
}

// act is one line of a trace.
type act struct {
	at   time.Duration
	who  string
	what string
	key  string
	a, b uint64
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// add notes an action. Its hash covers every line so far.
func (t *trace) add(at time.Duration, who, what, key string, a, b uint64) {
	t.acts = append(t.acts, act{at, who, what, key, a, b})
	h := t.hash
	if h == 0 {
		h = fnvOffset
	}
	h = mixText(mixText(mixText(mix(h, uint64(at)), who), what), key)
	t.hash = mix(mix(h, a), b)
}

func mix(h, v uint64) uint64 {
	for range 8 {
		h = (h ^ v&0xff) * fnvPrime
		v >>= 8
	}
	return h
}

func mixText[T string | []byte](h uint64, s T) uint64 {
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return (h ^ 0xff) * fnvPrime
}

// digest makes a number of what was written, so that a trace differs when only
// the data does.
func digest(data []byte) uint64 { return mixText(fnvOffset, data) }

// write writes the last n lines; 0: all.
func (t *trace) write(w io.Writer, n int) {
	from := 0
	if n > 0 && len(t.acts) > n {
		from = len(t.acts) - n
		_, _ = fmt.Fprintf(w, "… %d actions before\n", from)
	}
	for i := from; i < len(t.acts); i++ {
		a := &t.acts[i]
		_, _ = fmt.Fprintf(w, "%12.6f  %-4s %-28s %s", a.at.Seconds(), a.who, a.what, a.key)
		if a.a != 0 || a.b != 0 {
			_, _ = fmt.Fprintf(w, "  %d", a.a)
		}
		if a.b != 0 {
			_, _ = fmt.Fprintf(w, " %x", a.b)
		}
		_, _ = fmt.Fprintln(w)
	}
}
