// Package guess proposes the name that somebody may have had in mind. It is pure,
// returns no errors, and is safe for concurrent use.
package guess

import "strings"

// longest keeps the work small: what is longer is no slip.
const longest = 64

// Name returns the one of names that got may stand for, as the end of a sentence,
// "; did you mean x?", and "" where none is within two slips. Names are in lower
// case.
func Name(got string, names []string) string {
	if len(got) > longest {
		return ""
	}
	best, least := "", 3 // more than two slips are another word
	for _, n := range names {
		if d := slips(strings.ToLower(got), n); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// slips is the edit distance of two short strings.
func slips(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		corner := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := corner
			if a[i-1] != b[j-1] {
				cost++
			}
			corner = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
