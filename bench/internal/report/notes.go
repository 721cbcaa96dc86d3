package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/coatcheck-go/session/bench/internal/app"
)

// notes returns the explanations below the tables.
func (r Report) notes() []string {
	s := r.Setting
	notes := []string{
		"CPU is the processor time that one request takes in the server's process and in Redis, " +
			"as the operating system counts it. Compare the ratios: seconds depend on the machine and its load.",
		"bare is the handler without a session, one-command the handler with a single Redis command. " +
			"They are the limits. × limit compares a read with bare, a write or a sign-in with one-command.",
		"The systems take turns. A ratio is the median of the ratios of all rounds. " +
			"The range is from the lowest to the highest.",
		fmt.Sprintf("Each session has %s. coatcheck-advised is coatcheck with %s. All other systems run with %s.",
			app.Long.Name, s.Advised, s.Default),
		fmt.Sprintf("%s: %s on %s, %d cores shared by client, server and %s; %s.",
			s.Date, s.Go, s.Platform, s.Cores, s.Redis, s.rounds()),
	}
	if len(s.RedisConfig) > 0 {
		notes = append(notes, "Redis settings: "+strings.Join(s.RedisConfig, ", ")+".")
	}
	if versions := s.versions(); versions != "" {
		notes = append(notes, "Versions: "+versions+".")
	}
	return notes
}

// rounds describes the rounds of the run.
func (s Setting) rounds() string {
	if s.Rounds == 1 {
		return "one round of " + s.Limit
	}
	return fmt.Sprintf("medians of %d rounds of %s", s.Rounds, s.Limit)
}

// versions lists each module once, with its version.
func (s Setting) versions() string {
	var list []string
	for _, v := range s.Versions {
		if text := v.Module + " " + v.Version; !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return strings.Join(list, ", ")
}
