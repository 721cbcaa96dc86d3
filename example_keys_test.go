package session_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// Keys, what they do, and who is told: all that one deployment needs.
func ExampleConfig_keys() {
	fromSecrets := func(string) []byte { // where the application keeps its keys: the same on all nodes
		key := make([]byte, 32)
		rand.Read(key)
		return key
	}
	audit := func(_ context.Context, e session.Event) { fmt.Println("audit:", e.Kind, e.User) }
	store := memstore.New()
	sessions, err := session.New(store, session.Config{
		Keys:        [][]byte{fromSecrets("session/2026"), fromSecrets("session/2025")}, // the first signs tokens, both are accepted
		Seal:        true,                                                               // and encrypts values and users, which both open
		UserKey:     fromSecrets("session/users"),                                       // names users to the store; it stays the same
		RotateEvery: 15 * time.Minute,                                                   // a new token, in a response that leaves anyway
		OnEvent:     audit,                                                              // what happens on this node
	})
	if err != nil {
		panic(err)
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada"})
	}
	browse(sessions.Handler(session.HandlerFunc(login)), "/")
	// Output:
	// audit: signed in ada
}
