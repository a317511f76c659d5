package audit

import (
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
)

// No history that can be folded breaks the chain of versions, because the folding
// makes it: this is about the day on which the folding is wrong.
func TestAChainOfVersionsThatTheFoldingBroke(t *testing.T) {
	const one, two = "v1", "v2"
	before := entity.Entity{ID: "e1", Revision: 1, Version: 1, VersionID: one}
	modified := entity.Entity{ID: "e1", Revision: 2, Version: 1, VersionID: one, LastOpID: "a"}
	versioned := entity.Entity{ID: "e1", Revision: 2, Version: 2, VersionID: two, PreviousVersionID: one, LastOpID: "a"}
	none := entity.Entity{}
	created := entity.Entity{ID: "e1", Revision: 1, Version: 1, VersionID: one, LastOpID: "a"}
	for _, c := range []struct {
		name          string
		change        entity.Change
		before, after entity.Entity
		spoil         func(e *entity.Entity)
		want          string
	}{
		{"created", entity.Change{Kind: entity.Created}, none, created, nil, ""},
		{"modified", entity.Change{Kind: entity.Modified}, before, modified, nil, ""},
		{"versioned", entity.Change{Kind: entity.Modified, Version: true}, before, versioned, nil, ""},
		{"created without a version", entity.Change{Kind: entity.Created}, none, created, func(e *entity.Entity) { e.Version, e.VersionID = 0, "" }, EffectsVersion},
		{"another version", entity.Change{Kind: entity.Modified}, before, modified, func(e *entity.Entity) { e.Version = 2 }, EffectsVersion},
		{"a version is skipped", entity.Change{Kind: entity.Modified, Version: true}, before, versioned, func(e *entity.Entity) { e.Version = 3 }, EffectsVersion},
		{"the same version with another id", entity.Change{Kind: entity.Modified}, before, modified, func(e *entity.Entity) { e.VersionID = two }, EffectsVersion},
		{"another version with the same id", entity.Change{Kind: entity.Modified, Version: true}, before, versioned, func(e *entity.Entity) { e.VersionID = one }, EffectsVersion},
		{"another version before it", entity.Change{Kind: entity.Modified, Version: true}, before, versioned, func(e *entity.Entity) { e.PreviousVersionID = two }, EffectsVersion},
		{"another revision", entity.Change{Kind: entity.Modified}, before, modified, func(e *entity.Entity) { e.Revision = 3 }, EffectsRevision},
		{"another operation", entity.Change{Kind: entity.Modified}, before, modified, func(e *entity.Entity) { e.LastOpID = "b" }, EffectsRevision},
		{"another entity", entity.Change{Kind: entity.Modified}, before, modified, func(e *entity.Entity) { e.ID = "e2" }, EffectsRevision},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := New(Options{})
			v := &visit{a: a, p: a.partition(0), s: &arbiter.Step{}}
			b := &c.before
			if c.before.ID == "" {
				b = nil
			}
			if c.spoil != nil {
				c.spoil(&c.after)
			}
			v.successor(&operation{id: "a", target: &target{id: "e1"}}, &c.change, b, &c.after)
			want := 0
			if c.want != "" {
				want = 1
			}
			if r := a.Report(); r.Total != want || r.ByInvariant[c.want] != want {
				t.Errorf("%v, want %d of %q", r.Violations, want, c.want)
			}
		})
	}
}
