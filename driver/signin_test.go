package driver_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// signInNow is the store's time in the tests of decisions.
var signInNow = time.UnixMilli(1_800_000_000_123)

// userSession returns a session of Ada that was created some time before signInNow.
func userSession(name string, age time.Duration) driver.UserSession {
	r := &driver.Record{
		Secret: driver.Secret(hash(name)), Tokens: driver.Tokens{Current: hash(name)}, Idle: time.Hour,
		Created: signInNow.Add(-age), Seen: signInNow.Add(-age), Deadline: signInNow.Add(24 * time.Hour),
		Principal: &driver.Principal{User: "ada", Owner: hash("ada")},
	}
	return driver.UserSession{ID: driver.ID{Bucket: driver.BucketOf(hash("ada")), Selector: hash(name)}, Record: r}
}

func idsOf(sessions ...driver.UserSession) []driver.ID {
	var ids []driver.ID
	for _, s := range sessions {
		ids = append(ids, s.ID)
	}
	return ids
}

// adaSignsIn is a sign-in of Ada that replaces the sessions in from, of which there is at most one.
func adaSignsIn(from ...driver.UserSession) *driver.SignIn {
	in := &driver.SignIn{Spec: driver.RecordSpec{
		Secret: driver.Secret(hash("new")), Verifier: hash("new"), Idle: time.Hour, Lifetime: 24 * time.Hour,
		Principal: &driver.Principal{User: "ada", Owner: hash("ada")},
	}}
	for _, s := range from {
		in.From = &driver.Credential{ID: s.ID, Verifier: s.Record.Tokens.Current}
		in.Carry = func(r *driver.Record) (driver.Fields, error) { return r.Fields, nil }
	}
	return in
}

func stateOf(sessions ...driver.UserSession) driver.SignInState {
	return driver.SignInState{Called: signInNow, Now: signInNow, Sessions: sessions}
}

func TestLiveRecord(t *testing.T) {
	live, expired := userSession("live", 0).Record, userSession("expired", time.Hour).Record
	for _, tt := range []struct {
		name         string
		r            *driver.Record
		until, ended time.Time
		want         error
	}{
		{"a live record", live, time.Time{}, time.Time{}, nil},
		{"a live record, with a moved marker", live, signInNow.Add(time.Minute), time.Time{}, nil},
		{"a live record, with an ended marker", live, time.Time{}, signInNow, nil},
		{"no record", nil, time.Time{}, time.Time{}, driver.ErrNotFound},
		{"an expired record", expired, time.Time{}, time.Time{}, driver.ErrNotFound},
		{"a moved marker", nil, signInNow.Add(time.Nanosecond), time.Time{}, driver.ErrMoved},
		{"a moved marker that has expired", nil, signInNow, time.Time{}, driver.ErrNotFound},
		{"an expired record, with a moved marker", expired, signInNow.Add(time.Minute), time.Time{}, driver.ErrMoved},
		{"an ended marker", nil, time.Time{}, signInNow.Add(time.Nanosecond - time.Minute), driver.ErrEnded},
		{"an ended marker that has expired", nil, time.Time{}, signInNow.Add(-time.Minute), driver.ErrNotFound},
		{"an expired record, with an ended marker", expired, time.Time{}, signInNow, driver.ErrEnded},
		{"both markers", nil, signInNow.Add(time.Minute), signInNow, driver.ErrMoved},
	} {
		r, err := driver.LiveRecord(signInNow, tt.r, tt.until, tt.ended)
		if !errors.Is(err, tt.want) || (r != nil) != (tt.want == nil) {
			t.Errorf("%s: record %v, error %v, want %v", tt.name, r != nil, err, tt.want)
		}
		if errors.Is(err, driver.ErrEnded) && !errors.Is(tt.want, driver.ErrEnded) {
			t.Errorf("%s: the error %v is an ErrEnded", tt.name, err)
		}
		if ended := new(driver.EndedError); errors.As(err, &ended) {
			if ended.Ago != signInNow.Sub(tt.ended) || !errors.Is(err, driver.ErrNotFound) {
				t.Errorf("%s: error %v, want an ErrNotFound with %v", tt.name, err, signInNow.Sub(tt.ended))
			}
		}
	}
}

// TestEndedSince: a clock of another server may be ahead, so an end may seem to lie in the future.
func TestEndedSince(t *testing.T) {
	var ended *driver.EndedError
	if err := driver.EndedSince(signInNow, signInNow.Add(time.Second)); !errors.As(err, &ended) || ended.Ago != 0 {
		t.Errorf("an end in a second: %v, want one that was 0s ago", err)
	}
}

func TestPlanCreate(t *testing.T) {
	spec := &driver.RecordSpec{Secret: driver.Secret(hash("a")), Verifier: hash("a"), Idle: time.Hour, Lifetime: time.Hour}
	add := &driver.Change{Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
	made, err := driver.PlanCreate(signInNow, nil, spec, add)
	if err != nil || string(made.Values[0]) != "1" || made.Record.Secret != spec.Secret {
		t.Fatalf("PlanCreate: %+v, error %v", made, err)
	}
	again, err := driver.PlanCreate(signInNow.Add(time.Minute), made.Record, spec, add)
	if err != nil || again.Record != made.Record || again.Values != nil || !again.Now.Equal(signInNow.Add(time.Minute)) {
		t.Errorf("a repeated PlanCreate: %+v, error %v, want the same record", again, err)
	}
	other := *spec
	other.Secret = driver.Secret(hash("b"))
	if res, err := driver.PlanCreate(signInNow, made.Record, &other, add); !errors.Is(err, driver.ErrExists) || res != nil {
		t.Errorf("PlanCreate over another record: %+v, error %v, want ErrExists", res, err)
	}
	if res, err := driver.PlanCreate(made.Record.Expires(), made.Record, &other, add); err != nil ||
		res.Record.Secret != other.Secret {
		t.Errorf("PlanCreate over an expired record: %+v, error %v, want a new record", res, err)
	}
	bad := &driver.Change{Ops: []driver.Op{{Kind: 99, Key: "n"}}}
	if res, err := driver.PlanCreate(signInNow, nil, spec, bad); !errors.Is(err, driver.ErrOp) || res != nil {
		t.Errorf("PlanCreate with an invalid operation: %+v, error %v, want ErrOp", res, err)
	}
}

func TestPlanSignInMakesARecord(t *testing.T) {
	in := adaSignsIn()
	in.Change.Ops = []driver.Op{{Kind: driver.Set, Key: "theme", Value: []byte(`"dark"`)}}
	plan, err := driver.PlanSignIn(in, stateOf(userSession("a", time.Minute)))
	if err != nil || !plan.MovedUntil.IsZero() || len(plan.Result.Evicted) != 0 {
		t.Fatalf("PlanSignIn: %+v, error %v, want nothing replaced and nothing evicted", plan, err)
	}
	r := plan.Result.Record
	if r.Owner() != hash("ada") || !r.Principal.Authenticated.Equal(signInNow) || len(r.Fields) != 1 {
		t.Errorf("the record is %+v of %+v", r, r.Principal)
	}
	if !in.Spec.Principal.Authenticated.IsZero() {
		t.Error("the caller's principal was modified")
	}
}

// The time of the authentication is the store's time of the sign-in, less AuthenticatedAgo. Whole
// milliseconds are stored.
func TestPlanSignInAuthenticatedAgo(t *testing.T) {
	for _, ago := range []time.Duration{0, time.Millisecond, 3*time.Hour + 999, driver.MaxAuthenticatedAgo} {
		in := adaSignsIn()
		in.AuthenticatedAgo = ago
		plan, err := driver.PlanSignIn(in, stateOf())
		if err != nil {
			t.Fatalf("%v ago: %v", ago, err)
		}
		want := signInNow.Truncate(time.Millisecond).Add(-ago.Truncate(time.Millisecond))
		if r := plan.Result.Record; !r.Principal.Authenticated.Equal(want) || r.Created.Before(signInNow.Truncate(time.Millisecond)) {
			t.Errorf("%v ago: authenticated at %v, created at %v", ago, r.Principal.Authenticated, r.Created)
		}
	}
	for _, ago := range []time.Duration{-1, driver.MaxAuthenticatedAgo + 1} {
		in := adaSignsIn()
		in.AuthenticatedAgo = ago
		if plan, err := driver.PlanSignIn(in, stateOf()); !errors.Is(err, driver.ErrPrincipal) {
			t.Errorf("%v ago: %+v, error %v, want ErrPrincipal", ago, plan, err)
		}
	}
	in := adaSignsIn()
	in.AuthenticatedAgo = time.Hour
	state := stateOf()
	state.Now = time.UnixMilli(60_000) // the clock of a machine that has none
	if plan, err := driver.PlanSignIn(in, state); err != nil || plan.Result.Record.Principal.Authenticated.UnixMilli() != 0 {
		t.Errorf("before 1970: %+v, error %v, want the authentication at 0", plan, err)
	}
}

// A repeated sign-in leaves the record, whatever else has changed since. Another one is refused.
func TestPlanSignInRepeated(t *testing.T) {
	in := adaSignsIn()
	in.MaxSessions, in.RefuseExtra = 1, true
	existing := userSession("new", time.Minute)
	state := stateOf(existing, userSession("a", 0))
	state.Existing, state.RevokedAt = existing.Record, signInNow
	plan, err := driver.PlanSignIn(in, state)
	if err != nil || plan.Result.Record != existing.Record || !plan.Result.Now.Equal(signInNow) || !plan.MovedUntil.IsZero() {
		t.Errorf("PlanSignIn: %+v, error %v, want the existing record", plan, err)
	}
	state.Existing = userSession("other", time.Minute).Record
	if plan, err := driver.PlanSignIn(in, state); !errors.Is(err, driver.ErrExists) || plan.Result != nil {
		t.Errorf("PlanSignIn at the id of another session: %+v, error %v, want ErrExists", plan, err)
	}
	state = stateOf()
	state.Existing = userSession("other", time.Hour).Record
	if plan, err := driver.PlanSignIn(in, state); err != nil || plan.Result.Record == state.Existing {
		t.Errorf("PlanSignIn at the id of an expired session: %+v, error %v, want a new record", plan, err)
	}
}

// An authentication that began before the last revocation, or at its very time, is refused. What
// counts is when SignIn was called, not when the store got to it.
func TestPlanSignInRevoked(t *testing.T) {
	for _, tt := range []struct {
		name                     string
		called, revoked, elapsed time.Duration // after signInNow; 0 for revoked: never
		want                     error
	}{
		{"never revoked", 0, 0, time.Hour, nil},
		{"before", 0, -time.Minute, time.Hour, driver.ErrRevoked},
		{"at the same time", 0, -time.Minute, time.Minute, driver.ErrRevoked},
		{"after", 0, -time.Minute, time.Minute - 1, nil},
		{"called before, and waited", -time.Second, -time.Millisecond, 0, driver.ErrRevoked},
		{"at most", 0, 0, driver.MaxSignInTime, nil},
		{"too long ago", 0, 0, driver.MaxSignInTime + 1, driver.ErrRevoked},
	} {
		in, state := adaSignsIn(), stateOf()
		in.Elapsed, state.Called = tt.elapsed, signInNow.Add(tt.called)
		if tt.revoked != 0 {
			state.RevokedAt = signInNow.Add(tt.revoked)
		}
		if plan, err := driver.PlanSignIn(in, state); !errors.Is(err, tt.want) || (plan.Result != nil) != (tt.want == nil) {
			t.Errorf("%s: %+v, error %v, want %v", tt.name, plan, err, tt.want)
		}
	}
}

// A sign-in replaces the session that the browser had: its record is live and accepts the verifier.
func TestPlanSignInReplaces(t *testing.T) {
	from := userSession("from", time.Minute)
	from.Record.Fields = driver.Fields{{Key: "cart", Value: []byte(`"tea"`)}}
	expired := userSession("from", time.Hour)
	renewed, rotated := *from.Record, *from.Record
	renewed.Tokens = driver.Tokens{Current: hash("next"), Previous: hash("from"), PreviousUntil: signInNow.Add(time.Minute)}
	rotated.Tokens = driver.Tokens{Current: hash("next"), Previous: hash("from"), PreviousAccepted: true}
	for _, tt := range []struct {
		name     string
		record   *driver.Record
		verifier string
		want     bool
	}{
		{"the current token", from.Record, "from", true},
		{"a token in its grace period", &rotated, "from", true},
		{"a superseded token", &renewed, "from", false},
		{"an unknown token", from.Record, "stranger", false},
		{"an expired session", expired.Record, "from", false},
		{"no session", nil, "from", false},
	} {
		in, state := adaSignsIn(from), stateOf()
		in.From.Verifier, state.From = hash(tt.verifier), tt.record
		plan, err := driver.PlanSignIn(in, state)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		until := time.Time{}
		if tt.want {
			until = signInNow.Add(driver.SupersededFor)
		}
		if carried := len(plan.Result.Record.Fields) == 1; carried != tt.want || !plan.MovedUntil.Equal(until) {
			t.Errorf("%s: carried %v, moved until %v, want %v and %v", tt.name, carried, plan.MovedUntil, tt.want, until)
		}
	}
	in, state := adaSignsIn(), stateOf()
	state.From = from.Record
	if plan, err := driver.PlanSignIn(in, state); err != nil || !plan.MovedUntil.IsZero() {
		t.Errorf("a browser without a session: %+v, error %v, want nothing replaced", plan, err)
	}
}

// The limit counts the owner's live sessions without the one that is replaced.
func TestPlanSignInLimit(t *testing.T) {
	a, b, c := userSession("a", 3*time.Minute), userSession("b", 2*time.Minute), userSession("c", time.Minute)
	expired := userSession("expired", time.Hour)
	all := []driver.UserSession{b, expired, c, a}
	for _, tt := range []struct {
		name     string
		max      int
		from     []driver.UserSession
		verifier string
		want     []driver.ID // evicted; with RefuseExtra: ErrTooMany if there are any
	}{
		{"no limit", 0, nil, "", nil},
		{"room for one more", 4, nil, "", nil},
		{"one too many", 3, nil, "", idsOf(a)},
		{"a lowered limit", 1, nil, "", idsOf(c, b, a)},
		{"a replaced session", 3, []driver.UserSession{b}, "b", nil},
		{"a replaced session and one too many", 2, []driver.UserSession{b}, "b", idsOf(a)},
		{"a session with an unknown token", 3, []driver.UserSession{a}, "stranger", idsOf(a)},
	} {
		in, state := adaSignsIn(tt.from...), stateOf(all...)
		in.MaxSessions = tt.max
		for _, s := range tt.from {
			in.From.Verifier, state.From = hash(tt.verifier), s.Record
		}
		plan, err := driver.PlanSignIn(in, state)
		if err != nil || !slices.Equal(plan.Result.Evicted, tt.want) {
			t.Errorf("%s: %+v, error %v, want %v evicted", tt.name, plan.Result, err, tt.want)
		}
		in.RefuseExtra = true
		plan, err = driver.PlanSignIn(in, state)
		if errors.Is(err, driver.ErrTooMany) != (len(tt.want) > 0) || (plan.Result == nil) != (err != nil) {
			t.Errorf("%s, RefuseExtra: %+v, error %v", tt.name, plan, err)
		}
	}
	if !slices.Equal(idsOf(all...), idsOf(b, expired, c, a)) {
		t.Error("PlanSignIn reordered the caller's sessions")
	}
}

// A sign-in whose fields or operations are refused has no plan.
func TestPlanSignInRefused(t *testing.T) {
	errCarry := errors.New("carry")
	from := userSession("from", time.Minute)
	state := stateOf(from)
	state.From = from.Record
	for name, tt := range map[string]struct {
		falsify func(in *driver.SignIn)
		want    error
	}{
		"carry": {func(in *driver.SignIn) {
			in.Carry = func(*driver.Record) (driver.Fields, error) { return nil, errCarry }
		}, errCarry},
		"operation": {func(in *driver.SignIn) { in.Change.Ops = []driver.Op{{Kind: 99, Key: "x"}} }, driver.ErrOp},
		"principal": {func(in *driver.SignIn) { in.Spec.Principal = &driver.Principal{Level: -1, User: "ada"} }, driver.ErrPrincipal},
	} {
		in := adaSignsIn(from)
		tt.falsify(in)
		if plan, err := driver.PlanSignIn(in, state); !errors.Is(err, tt.want) || plan.Result != nil ||
			!plan.MovedUntil.IsZero() {
			t.Errorf("%s: %+v, error %v, want no plan and %v", name, plan, err, tt.want)
		}
	}
}

func TestLiveSessions(t *testing.T) {
	var all []driver.UserSession
	for i := range 4 {
		all = append(all, userSession(strconv.Itoa(i), time.Duration(i)*time.Minute))
	}
	twin := userSession("twin", time.Minute)
	list := driver.LiveSessions(signInNow, []driver.UserSession{twin, all[3], all[0], userSession("expired", time.Hour), all[2], all[1]})
	same := driver.LiveSessions(signInNow, []driver.UserSession{all[1], twin})
	slices.SortFunc(same, func(a, b driver.UserSession) int { return slices.Compare(b.ID.Selector[:], a.ID.Selector[:]) })
	if want := idsOf(all[0], same[0], same[1], all[2], all[3]); !slices.Equal(idsOf(list...), want) {
		t.Errorf("LiveSessions: %v, want %v", idsOf(list...), want)
	}
	if list := driver.LiveSessions(signInNow, nil); len(list) != 0 {
		t.Errorf("LiveSessions of none: %v", list)
	}
}

func TestSelection(t *testing.T) {
	a, b := userSession("a", 0).ID, userSession("b", 0).ID
	for _, tt := range []struct {
		name             string
		sel              driver.Selection
		a, b, revocation bool
	}{
		{"all", driver.Selection{}, true, true, true},
		{"all but one", driver.Selection{Except: []driver.ID{a}}, false, true, true},
		{"only one", driver.Selection{Only: []driver.ID{a}}, true, false, false},
		{"none", driver.Selection{Only: []driver.ID{}}, false, false, false},
		{"named and excepted", driver.Selection{Only: []driver.ID{a, b}, Except: []driver.ID{b}}, true, false, false},
	} {
		if tt.sel.Matches(a) != tt.a || tt.sel.Matches(b) != tt.b || tt.sel.Revokes() != tt.revocation {
			t.Errorf("%s: matches %v and %v, revokes %v", tt.name, tt.sel.Matches(a), tt.sel.Matches(b), tt.sel.Revokes())
		}
	}
}
