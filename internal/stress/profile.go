package stress

import (
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Share is one value of a distribution and its weight in it.
type Share[T any] struct {
	Value  T
	Weight int
}

// Profile describes a workload: bursts of operations, each burst on one target
// chosen at random.
type Profile struct {
	Name               string
	Duration           time.Duration // of the submissions; what is under way then may still end
	Targets            int
	Rate               float64 // operations a second
	BurstMin, BurstMax int     // operations of one burst
	Priorities         []Share[op.Priority]
	Types              []Share[string]
	OnConflict         []Share[op.Conflict]
	CancelEvery        int // one of so many queued operations is cancelled after its submission; 0: none
}

// Seed is the workload of the documents Hierarchy comes from: a minute of 150
// operations a second on ten targets.
func Seed() Profile {
	return Profile{
		Name: "seed", Duration: time.Minute, Targets: 10, Rate: 150, BurstMin: 3, BurstMax: 8,
		Priorities: []Share[op.Priority]{{op.Low, 25}, {op.Normal, 45}, {op.High, 25}, {op.Critical, 5}},
		Types: []Share[string]{
			{op.TypeVersion, 30},
			{op.TypeModifyField, 25},
			{op.TypeBorrow, 20},
			{op.TypeComplexUpdate, 15},
			{op.TypePromoteToRoot, 5},
			{op.TypeDetach, 5},
		},
		OnConflict: []Share[op.Conflict]{{op.OnConflictReject, 1}},
	}
}

// Demo is a shorter [Seed] in which some of the losers wait or come back, and
// some of those that wait are cancelled, so that every way to end is seen.
func Demo() Profile {
	p := Seed()
	p.Name, p.Duration = "demo", 15*time.Second
	p.OnConflict = []Share[op.Conflict]{{op.OnConflictReject, 80}, {op.OnConflictQueue, 12}, {op.OnConflictRetry, 8}}
	p.CancelEvery = 10
	return p
}

// Profiles returns the known profiles.
func Profiles() []Profile { return []Profile{Seed(), Demo()} }

// ByName finds a profile.
func ByName(name string) (Profile, bool) {
	all := Profiles()
	i := slices.IndexFunc(all, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		return Profile{}, false
	}
	return all[i], true
}
