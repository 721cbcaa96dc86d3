package redisstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestUserIDs: a user's id is any 1 to 256 bytes, in clear and sealed. Each is a user of its own, who is listed and signed out alone, also by
// a process that reads what another wrote.
func TestUserIDs(t *testing.T) {
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	ids := []string{
		"a", "A", "a\x00", "\x00", "\x00\x00", "\xff\xfe", "\xff\xfd", "\xed\xa0\x80", "a b\r\n", `"}],"owner":"x"`, "{1a2b}", "*", "@rev", "é", "e\u0301", "😀",
		strings.Repeat("u", 256), strings.Repeat("\x00", 256), strings.Repeat("\xff", 256), strings.Repeat("\xff", 255) + "\xfe",
	}
	for _, seal := range []bool{false, true} {
		t.Run(fmt.Sprint("sealed ", seal), func(t *testing.T) {
			cfg := session.Config{Seal: seal, Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}, UserKey: bytes.Repeat([]byte{2}, 32)}
			o := redisstore.Options{Namespace: fmt.Sprint("ids-", seal)}
			m, err := session.New(open(t, url, o), cfg)
			ok(t, err)
			other, err := session.New(open(t, url, o), cfg)
			ok(t, err)
			signIn := func(id string) error {
				h := m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
					if err = s.SignIn(t.Context(), session.Login{User: id}); err == nil && s.User() != id {
						t.Errorf("%q became %q", id, s.User())
					}
					return nil
				}))
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
				return err
			}
			for _, bad := range []string{"", strings.Repeat("u", 257), strings.Repeat("\xff", 257)} {
				if err := signIn(bad); !errors.Is(err, session.ErrInvalid) {
					t.Errorf("an id of %d bytes: %v, want ErrInvalid", len(bad), err)
				}
				list, err := other.Sessions(t.Context(), bad)
				n, err2 := other.RevokeUser(t.Context(), bad)
				if err != nil || err2 != nil || len(list) != 0 || n != 0 {
					t.Errorf("an id of %d bytes: %d are listed, %d ended, errors %v, %v", len(bad), len(list), n, err, err2)
				}
			}
			for _, id := range ids {
				ok(t, signIn(id))
			}
			for i, id := range ids {
				if list, err := other.Sessions(t.Context(), id); err != nil || len(list) != 1 || list[0].User != id {
					t.Errorf("%q: %+v, %v", id, list, err)
				} else if err := other.Revoke(t.Context(), ids[(i+1)%len(ids)], list[0].Handle); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("another user ends the session of %q: %v, want ErrNotFound", id, err)
				}
			}
			for i, id := range ids {
				if n, err := other.RevokeUser(t.Context(), id); err != nil || n != 1 {
					t.Errorf("%q: %d ended, %v", id, n, err)
				}
				if i+1 < len(ids) {
					if list, err := m.Sessions(t.Context(), ids[i+1]); err != nil || len(list) != 1 {
						t.Errorf("%q was ended with %q: %v", ids[i+1], id, err)
					}
				}
			}
		})
	}
}
