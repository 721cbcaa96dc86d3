package session_test

import (
	"crypto/rand"
	"fmt"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// With Seal the application reads values as ever, and whoever has a dump of the store does not.
func ExampleConfig_seal() {
	fromSecrets := func(name string) []byte { // where the application keeps its keys: the same on all nodes
		key := make([]byte, 32)
		rand.Read(key)
		return key
	}
	const address session.Value[string] = "shipping.address"
	store := memstore.New()
	sessions, err := session.New(store, session.Config{
		Seal:    true,
		Keys:    [][]byte{fromSecrets("session/2026"), fromSecrets("session/2025")}, // the first seals, both open
		UserKey: fromSecrets("session/users"),
	})
	if err != nil {
		panic(err)
	}
	write := func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		address.Set(s, "12 Analytical Row")
		return nil
	}
	read := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		id, err := driver.ParseID(s.Info().Handle)
		if err != nil {
			return err
		}
		record, _, err := store.Load(r.Context(), id)
		if err != nil {
			return err
		}
		stored, _ := record.Fields.Get("shipping.address")
		_, err = fmt.Fprintf(w, "%s; the store has %.2s… of %d bytes\n", address.Get(s), stored, len(stored))
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/write", session.HandlerFunc(write))
	mux.Handle("/read", session.HandlerFunc(read))
	browse(sessions.Handler(mux), "/write", "/read")
	// Output:
	// 12 Analytical Row; the store has ~1… of 69 bytes
}
