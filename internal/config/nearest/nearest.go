// Package nearest finds the word somebody probably meant.
package nearest

// Of returns the candidate with the fewest edits from s, if that is at most a
// third of its length (and at least one is allowed); otherwise "". The first
// of equals wins. Long input is never like anything.
func Of(s string, candidates []string) string {
	if len(s) > 64 {
		return ""
	}
	best, at := "", 1<<30
	for _, c := range candidates {
		if len(c) > 64 {
			continue
		}
		if d := distance(s, c); d < at && d <= max(1, max(len(s), len(c))/3) {
			best, at = c, d
		}
	}
	return best
}

// distance counts insertions, deletions, substitutions and swaps of
// neighbours (optimal string alignment), in bytes.
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
