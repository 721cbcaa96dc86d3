package report

import "github.com/coatcheck-go/session/bench/internal/app"

// signIn returns the table of what a sign-in does. The systems do different work for the same
// request.
func (r Report) signIn(results []Result) grid {
	g := grid{
		title: "what a sign-in does",
		head:  []string{"system", "× limit", "new token", "user's list", "checks revocations", "atomic"},
		notes: []string{
			"A sign-in is that of a visitor without a session. The other libraries store the user's id in a new session.",
			"New token: a token that was known before the sign-in does not open the signed-in session. " +
				"scs does this with RenewToken, fiber with Regenerate. gorilla has no such call.",
			"User's list: the user's sessions can be listed, limited and ended together. " +
				"Checks revocations: a user who is revoked during the sign-in does not stay signed in.",
			"by-hand does the work of coatcheck with plain commands in one round trip, but not atomically.",
		},
	}
	for _, result := range results {
		found, err := app.Find([]string{result.System})
		if err != nil || found[0].Name == app.Bare {
			continue
		}
		times := "–"
		if best, ok := r.limit(result.Connections, SignIn); ok {
			times = result.over(best).median()
		}
		does := found[0].SignIn
		g.rows = append(g.rows, row(markOf(result.System), result.System, times,
			yesNo(does.NewToken), yesNo(does.UserList), yesNo(does.Revocations), yesNo(does.Atomic)))
	}
	return g
}
