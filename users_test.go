package session_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// TestSessionsListsTheUsersSessions: the newest first, with what the sign-in said about the device,
// and no session of another user.
func TestSessionsListsTheUsersSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		bob := s.mustSignIn("bob")
		s.known()
		var handles []string
		for _, device := range []string{"phone", "laptop"} {
			v := s.visitor()
			v.do(func(ses *session.Session) error {
				return ses.SignIn(t.Context(), session.Login{
					User: "ada", Device: device, UserAgent: "UA", Address: "192.0.2.1", Methods: []string{"pwd"}, Level: 1,
				})
			})
			handles = append(handles, v.info().Handle)
			time.Sleep(time.Minute)
		}
		list, err := listAll(t.Context(), s.m, "ada")
		if err != nil || len(list) != 2 || list[0].Handle != handles[1] || list[1].Handle != handles[0] {
			t.Fatalf("%+v, %v", list, err)
		}
		if i := list[0]; i.Device != "laptop" || i.UserAgent != "UA" || i.Address != "192.0.2.1" ||
			i.Methods[0] != "pwd" || i.Level != 1 ||
			i.User != "ada" || !i.Authenticated.Equal(i.Created) || i.Seen.Before(i.Created) ||
			i.Deadline.Sub(i.Created) != 24*time.Hour {
			t.Errorf("%+v", i)
		}
		if list, err := listAll(t.Context(), s.m, ""); !errors.Is(err, session.ErrInvalid) || len(list) != 0 {
			t.Errorf("the empty user: %+v, %v", list, err)
		}
		for _, nobody := range []string{"eve", "Ada", "ada\x00"} {
			if list, err := listAll(t.Context(), s.m, nobody); err != nil || len(list) != 0 {
				t.Errorf("user %q: %+v, %v", nobody, list, err)
			}
		}
		mustEqual(t, "bob", bob.who(), "bob")
	})
}

// TestSessionsReadsPages lists 2,500 sessions of one user in pages of 100. A loop that breaks reads
// no further page. Each loop is a new listing.
func TestSessionsReadsPages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		const many, pageSize = 2500, 100
		for i := range many {
			s.mustSignIn("ada")
			if i%7 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		s.mustSignIn("bob")
		sessions := s.m.Sessions(t.Context(), "ada")
		mustEqual(t, "pages read before a loop", s.store.pages.Load(), 0)
		for range 2 {
			s.store.pages.Store(0)
			seen, last := map[string]bool{}, time.Now()
			for info, err := range sessions {
				if err != nil || info.User != "ada" || info.Created.After(last) || seen[info.Handle] {
					t.Fatalf("%+v, %v, after one of %v", info, err, last)
				}
				seen[info.Handle], last = true, info.Created
			}
			mustEqual(t, "sessions", len(seen), many)
			mustEqual(t, "pages, with the empty one at the end", s.store.pages.Load(), many/pageSize+1)
			mustEqual(t, "the largest page", s.store.largestPage, pageSize)
		}
		for _, stop := range []int{1, pageSize, pageSize + 1, 3 * pageSize} {
			s.store.pages.Store(0)
			n := 0
			for range sessions {
				if n++; n == stop {
					break
				}
			}
			mustEqual(t, "pages until a break", s.store.pages.Load(), int64((stop+pageSize-1)/pageSize))
		}
	})
}

// TestSessionsWhileSessionsComeAndGo signs devices in and out during a loop. The sessions that live
// during the whole loop are yielded exactly once, and none that ended before its page was read.
func TestSessionsWhileSessionsComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		var handles []string // oldest first
		signInNow := func() {
			time.Sleep(time.Millisecond)
			handles = append(handles, s.mustSignIn("ada").info().Handle)
		}
		for range 250 {
			signInNow()
		}
		var listed []string
		for info, err := range s.m.Sessions(t.Context(), "ada") {
			if err != nil {
				t.Fatal(err)
			}
			listed = append(listed, info.Handle)
			if len(listed) != 100 { // at the end of the first page
				continue
			}
			signInNow()
			// The first and the last session of this page, and two of later pages.
			for _, over := range []int{249, 150, 149, 10} {
				if err := s.m.Revoke(t.Context(), "ada", handles[over]); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := slices.Concat(handles[:10], handles[11:149], handles[150:250])
		slices.Reverse(want)
		if !slices.Equal(listed, want) {
			t.Errorf("%d sessions are listed, want %d", len(listed), len(want))
		}
	})
}

// TestSessionsEndsWithAnError: after an error of the store, the sessions of earlier pages have been
// yielded, then the error, and nothing more.
func TestSessionsEndsWithAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		for range 150 {
			s.mustSignIn("ada")
		}
		for pages, want := range []int{0, 100} {
			s.store.pages.Store(0)
			s.store.set(func(call string) error {
				if call == "sessions" && int(s.store.pages.Load()) > pages {
					return errDown
				}
				return nil
			})
			list, err := listAll(t.Context(), s.m, "ada")
			if !errors.Is(err, session.ErrUnavailable) || len(list) != want {
				t.Errorf("store down after %d pages: %d sessions, %v, want %d and ErrUnavailable", pages, len(list), err, want)
			}
		}
		s.store.up()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		for _, err := range s.m.Sessions(ctx, "ada") {
			if n++; n == 100 {
				cancel()
			} else if n > 100 && !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("item %d, with a cancelled context: %v, want ErrUnavailable", n, err)
			}
		}
		mustEqual(t, "items, the error included", n, 101)
	})
}

// TestMaxPerUserEvictsOrRefuses: the oldest session ends, or with RefuseExtra the sign-in fails and
// changes nothing.
func TestMaxPerUserEvictsOrRefuses(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{MaxPerUser: 2, RefuseExtra: refuse})
			var all []*visitor
			for range 2 {
				all = append(all, s.mustSignIn("ada"))
				time.Sleep(time.Second)
			}
			all[1].do(signIn("ada")) // replaces its own session
			mustEqual(t, "oldest", all[0].who(), "ada")
			time.Sleep(time.Second)
			v := s.known()
			w := v.do(func(ses *session.Session) error { n.Add(ses, 1); return signIn("ada")(ses) })
			if refuse {
				if mustAnswer(t, w, 409); len(cookies(w)) != 0 || all[0].who() != "ada" || v.count() != 1 {
					t.Errorf("Set-Cookie %q, oldest %q, n = %d", cookies(w), all[0].who(), v.count())
				}
				w = v.do(func(ses *session.Session) error { // the handler ignores the error
					if err := signIn("ada")(ses); !errors.Is(err, session.ErrTooMany) {
						t.Errorf("SignIn: %v, want ErrTooMany", err)
					}
					n.Add(ses, 1)
					return nil
				})
				if w.Code != 200 || v.count() != 2 || v.who() != "" {
					t.Errorf("%d, n = %d, user %q", w.Code, v.count(), v.who())
				}
				all[0].do(signOut)
				mustEqual(t, "status", v.do(signIn("ada")).Code, 200)
				return
			}
			if w.Code != 200 || v.who() != "ada" || all[0].who() != "" || all[1].who() != "ada" {
				t.Errorf("%d, new %q, oldest %q, other %q", w.Code, v.who(), all[0].who(), all[1].who())
			}
		})
	}
}

// TestRevokeEndsOneSessionOfTheUser: for any other handle Revoke returns ErrNotFound. Neither the
// error nor the calls of the store show whether another user's session exists.
func TestRevokeEndsOneSessionOfTheUser(t *testing.T) {
	s := newSite(t, session.Config{})
	phone, laptop, bob, anonymous := s.mustSignIn("ada"), s.mustSignIn("ada"), s.mustSignIn("bob"), s.known()
	ended := s.mustSignIn("ada")
	endedHandle := ended.info().Handle
	ended.do(signOut)
	const never = "1a2b-AAAAAAAAAAAAAAAAAAAAAA"
	var first error
	for _, handle := range []string{bob.info().Handle, anonymous.info().Handle, endedHandle, never} {
		before, loads := s.store.endUsers.Load(), s.store.loads.Load()
		err := s.m.Revoke(t.Context(), "ada", handle)
		if first == nil {
			first = err
		}
		if !errors.Is(err, session.ErrNotFound) || err.Error() != first.Error() || session.Status(err) != 404 {
			t.Errorf("Revoke(%s): %v", handle, err)
		}
		if calls := s.store.endUsers.Load() - before; calls != 1 || s.store.loads.Load() != loads {
			t.Errorf("Revoke(%s): %d calls, %d loads", handle, calls, s.store.loads.Load()-loads)
		}
	}
	for _, handle := range []string{"", "x", strings.ToUpper(phone.info().Handle), phone.info().Handle + " "} {
		if err := s.m.Revoke(t.Context(), "ada", handle); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Revoke(%q): %v", handle, err)
		}
	}
	if err := s.m.Revoke(t.Context(), "", phone.info().Handle); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Revoke without a user: %v", err)
	}
	mustEqual(t, "bob", bob.who(), "bob")
	mustEqual(t, "anonymous n", anonymous.count(), 1)
	if err := s.m.Revoke(t.Context(), "ada", phone.info().Handle); err != nil {
		t.Error(err)
	}
	if phone.who() != "" || laptop.who() != "ada" {
		t.Errorf("phone %q, laptop %q", phone.who(), laptop.who())
	}
	s.store.down()
	// The handle is empty, because the store is down.
	if err := s.m.Revoke(t.Context(), "ada", laptop.info().Handle); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Revoke: %v", err)
	}
	if err := s.m.Revoke(t.Context(), "ada", never); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Revoke with the store down: %v", err)
	}
}

// TestRevokeUserEndsAllOrAllOthers: the handles that are passed stay, if they are the user's.
func TestRevokeUserEndsAllOrAllOthers(t *testing.T) {
	s := newSite(t, session.Config{})
	here, phone, laptop, bob := s.mustSignIn("ada"), s.mustSignIn("ada"), s.mustSignIn("ada"), s.mustSignIn("bob")
	if n, err := s.m.RevokeUser(t.Context(), "ada", here.info().Handle, "no handle"); n != 0 ||
		!errors.Is(err, session.ErrInvalid) {
		t.Errorf("with an invalid handle: %d, %v", n, err)
	}
	mustEqual(t, "the user after an invalid handle", phone.who(), "ada")
	many := slices.Repeat([]string{here.info().Handle}, driver.MaxExcept+1)
	if n, err := s.m.RevokeUser(t.Context(), "ada", many...); n != 0 || !errors.Is(err, session.ErrInvalid) {
		t.Errorf("with too many handles: %d, %v", n, err)
	}
	w := here.do(func(ses *session.Session) error {
		n, err := s.m.RevokeUser(t.Context(), "ada", ses.Info().Handle, bob.info().Handle)
		mustEqual(t, "ended", n, 2)
		return err
	})
	if w.Code != 200 || here.who() != "ada" || phone.who() != "" || laptop.who() != "" || bob.who() != "bob" {
		t.Errorf("%d, here %q, phone %q, laptop %q, bob %q", w.Code, here.who(), phone.who(), laptop.who(), bob.who())
	}
	w = here.do(func(ses *session.Session) error {
		n, err := s.m.RevokeUser(t.Context(), "ada")
		mustEqual(t, "ended", n, 1)
		theme.Set(ses, "late")
		return err
	})
	if mustAnswer(t, w, 409); len(cookies(w)) != 0 || s.store.Len() != 1 {
		t.Errorf("a write after the end: Set-Cookie %q, %d sessions", cookies(w), s.store.Len())
	}
	if n, err := s.m.RevokeUser(t.Context(), ""); n != 0 || !errors.Is(err, session.ErrInvalid) {
		t.Errorf("the empty user: %d, %v", n, err)
	}
	for _, nobody := range []string{"ada", "eve"} {
		if n, err := s.m.RevokeUser(t.Context(), nobody); n != 0 || err != nil {
			t.Errorf("%q: %d, %v", nobody, n, err)
		}
	}
	s.store.down()
	if _, err := s.m.RevokeUser(t.Context(), "bob"); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("with the store down: %v", err)
	}
}

// TestRevocationRefusesSignInsThatBeganBefore: a password that was checked before the revocation
// does not sign in after it. One that is checked later does.
func TestRevocationRefusesSignInsThatBeganBefore(t *testing.T) {
	for name, revoke := range map[string]func(s *site) error{
		"one user":  func(s *site) error { _, err := s.m.RevokeUser(t.Context(), "ada"); return err },
		"all users": func(s *site) error { return s.m.RevokeAll(t.Context()) },
	} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{})
			v := s.visitor()
			began := time.Now() // the user leaves for the identity provider
			time.Sleep(time.Second)
			w := v.do(func(ses *session.Session) error {
				time.Sleep(time.Second) // the handler checks the password
				if err := revoke(s); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
				return signIn("ada")(ses)
			})
			if mustAnswer(t, w, 401); len(cookies(w)) != 0 || s.store.Len() != 0 {
				t.Errorf("%s: Set-Cookie %q, %d sessions", name, cookies(w), s.store.Len())
			}
			w = v.do(func(ses *session.Session) error {
				return ses.SignIn(t.Context(), session.Login{User: "ada", Began: began})
			})
			mustAnswer(t, w, 401)
			w = v.do(func(ses *session.Session) error {
				if err := revoke(s); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
				// As after a password reset.
				return ses.SignIn(t.Context(), session.Login{User: "ada", Began: time.Now()})
			})
			mustEqual(t, name+": status", w.Code, 200)
			v.do(signOut)
			mustEqual(t, name+": status of a new sign-in", v.do(signIn("ada")).Code, 200)
		})
	}
}

// TestRevokeAllEndsEverySession: of users and of anonymous visitors.
func TestRevokeAllEndsEverySession(t *testing.T) {
	s := newSite(t, session.Config{})
	all := []*visitor{s.mustSignIn("ada"), s.mustSignIn("bob"), s.known()}
	if err := s.m.RevokeAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, v := range all {
		if v.who() != "" || v.count() != 0 {
			t.Errorf("visitor %d: user %q, n = %d", i, v.who(), v.count())
		}
	}
	mustEqual(t, "sessions", s.store.Len(), 0)
}

// TestStoreWithoutUsersIsUnsupported: calls about users return ErrUnsupported and change no
// session.
func TestStoreWithoutUsersIsUnsupported(t *testing.T) {
	m, err := session.New(struct{ driver.Store }{memstore.New()}, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{site: &site{t: t, m: m}}
	w := v.do(func(ses *session.Session) error {
		n.Add(ses, 1)
		if err := signIn("ada")(ses); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("SignIn: %v", err)
		}
		return nil
	})
	if w.Code != 200 || v.count() != 1 {
		t.Errorf("%d, n = %d", w.Code, v.count())
	}
	_, err1 := listAll(t.Context(), m, "ada")
	_, err2 := m.RevokeUser(t.Context(), "ada")
	for _, err := range []error{err1, err2, m.Revoke(t.Context(), "ada", "x"), m.RevokeAll(t.Context())} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v, want ErrUnsupported", err)
		}
	}
}

// TestChangedUserKeyServesNoSignedInSession: with another UserKey the sessions of a user could not
// be found and revoked. So none is served until the key is back or all sessions have ended.
// Anonymous sessions are served.
func TestChangedUserKeyServesNoSignedInSession(t *testing.T) {
	for _, test := range []struct {
		name        string
		first, then []byte
	}{
		{"first key added", nil, key(1)},
		{"key replaced", key(1), key(2)},
		{"key removed", key(1), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := newSite(t, session.Config{UserKey: test.first})
			v, stranger := before.mustSignIn("ada"), before.known()
			after := before.withConfig(session.Config{UserKey: test.then})
			w := v.at(after).do(func(*session.Session) error { t.Error("the handler runs"); return nil })
			mustAnswer(t, w, 500)
			if len(cookies(w)) != 0 {
				t.Errorf("Set-Cookie %q: a wrong key must delete no cookie", cookies(w))
			}
			if log := before.log.String(); !strings.Contains(log, "Config.UserKey is not the one") ||
				strings.Contains(log, "ada") {
				t.Errorf("log: %s", log)
			}
			mustAnswer(t, stranger.at(after).do(func(*session.Session) error { return nil }), 200)
			mustEqual(t, "with the key back", v.at(before).who(), "ada")

			if err := after.m.RevokeAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			v = v.at(after)
			mustEqual(t, "after RevokeAll", v.who(), "")
			v.do(signIn("ada"))
			mustEqual(t, "after the next sign-in", v.who(), "ada")
		})
	}
}
