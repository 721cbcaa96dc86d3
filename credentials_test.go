package session

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/internal/ticket"
	"github.com/coatcheck-go/session/memstore"
)

// FuzzCredentials: a token that is read from a header stands in that header, whole and after a
// delimiter.
func FuzzCredentials(f *testing.F) {
	tok, other := ticket.Token{Bucket: 7, Generation: 4}, ticket.Token{Bucket: 8}
	a, b := tok.Text(&ticket.Ring{}), other.Text(&ticket.Ring{})
	for _, s := range [][2]string{
		{"", ""}, {"__Host-session=" + a, ""}, {"x=1; __Host-session=\"" + a + "\" ;y", "Bearer " + a},
		{"__Host-session=" + a + ";__Host-session=" + b, "Basic x"},
		{"__Host-session=evil;;=;__Host-session=" + b, "bearer  " + b + " "},
	} {
		f.Add(s[0], s[1])
	}
	m, err := New(memstore.New(), Config{Bearer: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, cookie, authorization string) {
		c := m.credentialsOf(http.Header{"Cookie": {cookie}, "Authorization": {authorization}})
		if !c.found {
			if c.token != (ticket.Token{}) || c.ambiguous {
				t.Errorf("no token was found, but the credentials are %+v", c)
			}
			return
		}
		text, where := c.token.Text(m.keys), cookie
		if c.inHeader {
			where = authorization
		}
		i := strings.Index(where, text)
		if i <= 0 || strings.IndexByte("= \"", where[i-1]) < 0 {
			t.Errorf("the token %q is not in %q", text, where)
		}
		if !c.inHeader && !c.hasCookie {
			t.Error("a token was found outside of both headers")
		}
	})
}

// TestCredentialsCorpus: a fuzz target without a corpus tests nothing.
func TestCredentialsCorpus(t *testing.T) {
	files, err := os.ReadDir("testdata/fuzz/FuzzCredentials")
	if err != nil || len(files) < 10 {
		t.Errorf("%d seeds, %v; want 10 or more", len(files), err)
	}
}
