package report

import (
	"slices"
	"strconv"
)

// Spread is the median and the range of the rounds.
type Spread struct{ Median, Min, Max float64 }

// spread returns the spread of values. It is zero if there are none.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	return Spread{median(slices.Clone(values)), slices.Min(values), slices.Max(values)}
}

// ratios divides a by b round by round, and returns the spread. The two were measured one soon
// after the other, so other load on the machine concerned both.
func ratios(a, b []float64) Spread {
	var each []float64
	for i, value := range a {
		if i < len(b) && b[i] > 0 {
			each = append(each, value/b[i])
		}
	}
	return spread(each)
}

// median returns the median as text.
func (s Spread) median() string { return fixed(s.Median, 2) }

// between returns the range as text.
func (s Spread) between() string {
	if s.Min == s.Max {
		return "–"
	}
	return fixed(s.Min, 2) + "–" + fixed(s.Max, 2)
}

// fixed formats f with a fixed number of decimals.
func fixed(f float64, decimals int) string { return strconv.FormatFloat(f, 'f', decimals, 64) }
