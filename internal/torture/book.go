package torture

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// answer is what the client of a submission knows in the end.
type answer int

const (
	pending  answer = iota // asked, and not yet given up
	accepted               // acknowledged: it has to end, once
	refused                // turned away with a reason: it must not be in the log
	unknown                // nobody said: it may be in the log, and then it has to end, once
)

// line is one operation in the book.
type line struct {
	id     string
	target string
	answer answer
	acked  time.Time // when the acknowledgement arrived
	told   op.Status // how it ended, as far as the client was told; "" if not
}

// book is what the load has been told about each operation. It is kept by the
// clients alone and knows nothing about the log. Its methods may be called from
// any goroutine.
type book struct {
	mu    sync.Mutex
	lines map[string]*line
	count [unknown + 1]int
}

func newBook() *book { return &book{lines: map[string]*line{}} }

// ask notes that an operation is about to be submitted.
func (b *book) ask(id, target string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lines[id] == nil {
		b.lines[id] = &line{id: id, target: target}
		b.count[pending]++
	}
}

// note keeps the answer. Whoever was accepted once stays accepted, and a refusal
// after silence says nothing about the first try.
func (b *book) note(id string, a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.lines[id]
	if l == nil || l.answer == accepted || l.answer == unknown && a == refused {
		return
	}
	b.count[l.answer]--
	b.count[a]++
	l.answer = a
	if a == accepted {
		l.acked = time.Now()
	}
}

// told keeps how an operation ended, in the words of an answer.
func (b *book) told(id string, s op.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.lines[id]; l != nil && s.Terminal() {
		l.told = s
	}
}

// counts returns how many operations have which answer.
func (b *book) counts() [unknown + 1]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// all returns every line, by id. Nobody may write any more.
func (b *book) all() []*line {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []*line
	for _, l := range b.lines {
		all = append(all, l)
	}
	slices.SortFunc(all, func(x, y *line) int { return cmp.Compare(x.id, y.id) })
	return all
}

// Balance compares the book with the log. Each list names at most ten.
type Balance struct {
	Accepted int `json:"accepted"`
	Refused  int `json:"refused"`
	Unknown  int `json:"unknown"` // of them Stored are in the log
	Stored   int `json:"unknown_stored"`
	Told     int `json:"told"` // ends that a client was told, all of them compared

	Lost      []string `json:"lost"`       // acknowledged, and not in the log
	Open      []string `json:"open"`       // in the log, and without an end
	Twice     []string `json:"twice"`      // with more than one end
	Forged    []string `json:"forged"`     // refused, and in the log all the same
	Lied      []string `json:"lied"`       // a client was told another end than the log's
	LostCount int      `json:"lost_count"` // acknowledged ones without exactly one end
	Bad       int      `json:"bad"`        // in all lists
}

const listed = 10

// balance is taken when nothing is under way any more.
func (b *book) balance(g *ledger) Balance {
	r := Balance{Lost: []string{}, Open: []string{}, Twice: []string{}, Forged: []string{}, Lied: []string{}}
	name := func(list *[]string, id string) {
		r.Bad++
		if len(*list) < listed {
			*list = append(*list, id)
		}
	}
	for _, l := range b.all() {
		f := g.fate(l.id)
		switch l.answer {
		case accepted:
			r.Accepted++
			if f.ends != 1 {
				r.LostCount++
			}
			if !f.seen {
				name(&r.Lost, l.id)
			}
		case refused:
			r.Refused++
			if f.seen {
				name(&r.Forged, l.id)
			}
		case pending, unknown:
			r.Unknown++
			if f.seen {
				r.Stored++
			}
		}
		if f.seen && f.ends == 0 {
			name(&r.Open, l.id)
		}
		if f.ends > 1 {
			name(&r.Twice, l.id)
		}
		if l.told != "" {
			r.Told++
			if l.told != f.status {
				name(&r.Lied, l.id)
			}
		}
	}
	return r
}
