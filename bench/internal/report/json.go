package report

import (
	"encoding/json"
	"io"
)

// JSON writes one object per line: each result, with the facts of its system.
func (r Report) JSON(w io.Writer) error {
	facts := map[string]Facts{}
	for _, f := range r.Facts {
		facts[f.System] = f
	}
	lines := json.NewEncoder(w)
	for _, result := range r.Results {
		if err := lines.Encode(struct {
			Result
			Facts
		}{result, facts[result.System]}); err != nil {
			return err
		}
	}
	return nil
}
