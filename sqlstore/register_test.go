package sqlstore_test

import (
	"testing"

	"github.com/coatcheck-go/session/openstore"
)

// TestOpenstoreOptions: the options in a URL reach the store; wrong and unknown ones are errors.
func TestOpenstoreOptions(t *testing.T) {
	p := onPostgres(t)
	s, err := openstore.Open(t.Context(), p.url+"&prefix="+p.options.Prefix+"&timeout=60s&max_conns=2&clean_every=1m")
	must(t, err)
	defer s.Close()
	id := mustCreate(t, s)
	mustCount(t, p.open(t), id, "1") // the same tables
	for _, option := range []string{"timeout=5", "max_conns=x", "clean_every=1m&clean_every=2m", "prefix=1", "schema=A", "unknown=1"} {
		for _, url := range []string{p.url + "&", "sqlite:sessions.db?"} {
			if s, err := openstore.Open(t.Context(), url+option); err == nil {
				s.Close()
				t.Errorf("%s%s: no error", url, option)
			}
		}
	}
}
