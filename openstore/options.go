package openstore

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// set reads an option's value into a store's options.
type set[O any] func(o *O, value string) error

// readOptions reads the query of a URL. It returns the options of passedOn as they are. Its errors
// quote no value, and a name only if it resembles an option: the query may begin inside a password.
func readOptions[O any](query string, known map[string]set[O], passedOn ...string) (o O, remaining url.Values, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return o, nil, wrong(`the text after "?" is not name=value&…`)
	}
	remaining = url.Values{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		read, v := known[name], values[name]
		switch {
		case read == nil && !slices.Contains(passedOn, name):
			all := slices.Sorted(maps.Keys(known))
			all = append(all, passedOn...)
			what := "the options are"
			if similar := nearest(name, all); similar != "" {
				what = fmt.Sprintf("%q; did you mean %q? The options are", name, similar)
			}
			return o, nil, wrong("unknown option: %s %s", what, strings.Join(all, ", "))
		case len(v) > 1:
			return o, nil, wrong("the option %s occurs twice", name)
		case v[0] == "":
			return o, nil, wrong("the option %s is empty", name)
		case read == nil:
			remaining[name] = v
		default:
			if err := read(&o, v[0]); err != nil {
				return o, nil, wrong("the option %s: %v", name, err)
			}
		}
	}
	return o, remaining, nil
}

func duration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return 0, errors.New("use a duration above zero, such as 500ms or 2s")
	}
	return d, nil
}

func number(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, errors.New("use a number, such as 0 or 2")
	}
	return n, nil
}

func boolean(v string) (bool, error) {
	if v != "true" && v != "false" {
		return false, errors.New("use true or false")
	}
	return v == "true", nil
}

// size reads a number of bytes.
func size(v string) (int, error) {
	shift := 0
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if digits, ok := strings.CutSuffix(v, unit); ok {
			v, shift = digits, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(v, 10, strconv.IntSize-shift)
	if err != nil || n < 0 {
		return 0, errors.New("use a number of bytes, or one with KiB, MiB or GiB, such as 64MiB")
	}
	return int(n << shift), nil
}

// nearest returns the name that is most similar to a mistyped one, or "" if none is similar.
func nearest(typed string, names []string) string {
	best, distance := "", max(1, len(typed)/3)+1
	for _, name := range names {
		if d := editDistance(typed, name); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance returns how many bytes to insert, delete or replace to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
