package op

import "strings"

// public lists the types that a client may use, sorted.
func (t Types) public() []string {
	names := make([]string, 0, len(t))
	for _, n := range sortedKeys(t) {
		if !t[n].Internal {
			names = append(names, n)
		}
	}
	return names
}

// meant proposes the name that a client may have had in mind.
func meant(got string, names []string) string {
	if len(got) > MaxToken {
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
