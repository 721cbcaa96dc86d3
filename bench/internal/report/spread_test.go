package report

import "testing"

func TestRatiosArePaired(t *testing.T) {
	// The second round was disturbed. Both figures are larger, and the ratio is not.
	got := ratios([]float64{20, 200, 22}, []float64{10, 100, 10})
	if want := (Spread{2, 2, 2.2}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := ratios(nil, []float64{1}); got != (Spread{}) {
		t.Errorf("without figures: got %v, want zero", got)
	}
	if got := ratios([]float64{1, 2}, []float64{0, 1}); got != (Spread{2, 2, 2}) {
		t.Errorf("a division by zero counts: got %v", got)
	}
}

func TestTargetsSayWhatIsReached(t *testing.T) {
	reached := map[string]string{}
	for _, cells := range example().targets().rows {
		reached[cells[0].text] = cells[2].text + " " + cells[4].text
	}
	for what, want := range map[string]string{
		"CPU of a read from the near cache, × bare":                                    "1.10 yes",
		"CPU of a read from the near cache, × the best other library, scs":             "0.22 yes",
		"CPU of a sign-in, × one-command":                                              "2.50 no",
		"apply.lua for one counter, × HINCRBY in the server":                           "10.00 no",
		"bytes, signed-in session of short fields, default setting, × one JSON string": "3.75 no",
	} {
		if reached[what] != want {
			t.Errorf("%s: got %q, want %q", what, reached[what], want)
		}
		delete(reached, what)
	}
	if len(reached) > 0 {
		t.Errorf("targets without a figure: %v", reached)
	}
}
