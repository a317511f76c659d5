package rebuild

import (
	"iter"
	"maps"
	"slices"
)

// Wanted walks over what a view has to hold after the steps that were folded, in
// the order of the keys; nil: the key is to be gone. Nobody may change the values.
func (f *Fold) Wanted(v View) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, key := range slices.Sorted(maps.Keys(f.views[v])) {
			if !yield(key, f.views[v][key].data) {
				return
			}
		}
	}
}
