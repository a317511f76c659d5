package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// promises says which of contract §8 hold on this system. The README has them in
// the same order and with the same numbers.
func promises(f *Facts) []Promise {
	fenced, fence := f.fenced()
	whole, history := f.whole()
	kept, loss := f.kept()
	served, help := f.served()
	return []Promise{
		{1, "What was acknowledged is not lost", worse(kept, fenced), join(loss, fence)},
		{2, "Each operation ends exactly once", fenced, join("the journal is fenced", fence)},
		{3, "Effects are applied exactly once", fenced, join("the journal is fenced", fence)},
		{4, "One operation at a time on an entity", fenced, join("the journal is fenced", fence)},
		{5, "A decision is durable first, and explains itself", worse(fenced, whole), join(history, fence)},
		{6, "Nothing stays blocked without an operator", served, help},
		{7, "No clock decides", OK, "wrong clocks shift windows and deadlines and break no rule"},
		{8, "Everything can be recomputed", worse(fenced, whole), join(history, "`hierarchy verify` does it")},
	}
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}

// stream returns one of the streams, or nil.
func (f *Facts) stream(name string) *Stream {
	for i := range f.Streams {
		if f.Streams[i].Name == name {
			return &f.Streams[i]
		}
	}
	return nil
}

// fenced: what the compare-and-set of the journal needs is as setup makes it.
func (f *Facts) fenced() (Level, string) {
	for _, c := range f.Changes {
		if c.Action == bus.ActionDrift || c.Action == bus.ActionCreated {
			return Bad, c.Object + " is not as setup makes it"
		}
	}
	if j := f.stream(bus.StreamJournal); j != nil && j.Async {
		return Bad, "the journal acknowledges before it writes"
	}
	return OK, ""
}

// whole: the journal has everything that ever happened.
func (f *Facts) whole() (Level, string) {
	j := f.stream(bus.StreamJournal)
	switch {
	case j == nil:
		return Bad, "there is no journal"
	case j.MaxAge > 0 || j.MaxMsgs > 0 || j.MaxBytes > 0:
		return Bad, "the journal has limits, so its beginning will be lost"
	case j.FirstSeq > 1 || j.Deleted > 0:
		return Warning, fmt.Sprintf("the journal is not whole any more: it begins at %d and %d entries in it are gone", j.FirstSeq, j.Deleted)
	}
	return OK, "the journal is whole"
}

// kept: what it takes to lose something that was acknowledged.
func (f *Facts) kept() (Level, string) {
	copies := 0
	for i := range f.Streams {
		s := &f.Streams[i]
		if !s.File || s.Async {
			return Bad, s.Name + " is not written before it is acknowledged, so a killed server loses it"
		}
		if copies == 0 || s.Replicas < copies {
			copies = s.Replicas
		}
	}
	level, text := OK, []string{"a killed process loses nothing"}
	always, asked := 0, 0
	intervals := map[string]bool{}
	for i := range f.Monitors {
		if m := &f.Monitors[i]; m.Error == "" {
			asked++
			if m.SyncAlways {
				always++
			} else {
				intervals[m.SyncInterval.String()] = true
			}
		}
	}
	switch {
	case asked > always:
		level = Warning
		text = append(text, "a power cut can lose the last "+strings.Join(slices.Sorted(maps.Keys(intervals)), ", "))
	case always >= max(copies, 1):
		text = append(text, "nor does a power cut")
	default:
		level = Unknown
		text = append(text, "whether a power cut does is unknown, see sync")
	}
	if copies < 3 {
		level = Warning
		text = append(text, "and with one copy a lost disk loses everything")
	} else {
		text = append(text, fmt.Sprintf("and %d of %d servers can be lost for good", (copies-1)/2, copies))
	}
	return level, strings.Join(text, ", ")
}

// served: who is there to go on when something dies.
func (f *Facts) served() (Level, string) {
	executors, _ := f.ready("executor")
	switch {
	case len(f.Leases) == 0:
		return Bad, "no resolver is alive"
	case executors == 0:
		return Bad, "no executor is ready"
	case len(f.Leases) == 1 || executors == 1:
		return Warning, fmt.Sprintf("with %s and %s, somebody has to start the one that dies", counted("resolver", len(f.Leases)), counted("executor", executors))
	}
	return OK, fmt.Sprintf("%s and %s take over from each other", counted("resolver", len(f.Leases)), counted("executor", executors))
}

// counted counts instances: "1 resolver", "2 resolvers".
func counted(what string, n int) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// listed writes versions and who has them.
func listed(of map[string][]string) string {
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, v+" ("+strings.Join(of[v], ", ")+")")
	}
	return strings.Join(parts, ", ")
}
