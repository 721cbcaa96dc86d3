package session

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
	"github.com/coatcheck-go/session/memstore"
)

var updateVectors = flag.Bool("update-vectors", false, "update this package's files in format/vectors")

// sameVectors checks that a file of format/vectors contains v, and returns its contents. With
// -update-vectors it first writes the file.
func sameVectors(t *testing.T, name string, v any) []byte {
	t.Helper()
	file := "format/vectors/" + name
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *updateVectors {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s differs from what the code computes; to update it: "+
			"go test . ./internal/ticket -run Vectors -update-vectors", file)
	}
	return got
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// eventVector is an event of the feed and the field "event" of its entry.
type eventVector struct {
	Key   string `json:"key,omitempty"`   // 32 bytes of Config.Keys in hex; empty: not sealed
	Nonce string `json:"nonce,omitempty"` // hex
	Plain string `json:"plain,omitempty"`
	Entry string `json:"entry"`         // hex
	Why   string `json:"why,omitempty"` // why it is rejected
}

// TestEventVectors seals events by hand as format/README.md specifies. A Manager must open them.
func TestEventVectors(t *testing.T) {
	bytesOf := must[[]byte](t)
	key, nonce := bytes.Repeat([]byte{7}, 32), []byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b")
	const (
		handle   = "beef-AAAAAAAAAAAAAAAAAAAAAA"
		before   = "0000-BBBBBBBBBBBBBBBBBBBBBB"
		signedIn = `{"kind":"signed in","session":"` + handle + `","user":"YWRh","before":"` + before + `","time":1800000000000}`
		all      = `{"kind":"revoked","time":1800000000000}`
	)
	own := bytesOf(hkdf.Key(sha256.New, key, nil, "coatcheck/1 event", 32))
	box := must[cipher.AEAD](t)(cipher.NewGCM(must[cipher.Block](t)(aes.NewCipher(own))))
	seal := func(plain string) []byte { return box.Seal(append([]byte{1}, nonce...), nonce, []byte(plain), nil) }
	flipped := seal(signedIn)
	flipped[20] ^= 1
	x := hex.EncodeToString
	vectors := []eventVector{
		{"", "", signedIn, x([]byte(signedIn)), ""},
		{"", "", all, x([]byte(all)), ""},
		{x(key), x(nonce), signedIn, x(seal(signedIn)), ""},
		{x(key), x(nonce), all, x(seal(all)), ""},
		{x(key), "", "", x(flipped), "it was altered"},
		{x(key), "", "", x([]byte(signedIn)), "in clear where there are keys"},
		{"", "", "", x(seal(signedIn)), "no key"},
		{"", "", "", x([]byte("{}")), "no kind"},
	}
	for _, v := range vectors {
		cfg := Config{}
		if v.Key != "" {
			cfg.Keys = [][]byte{key}
		}
		m := must[*Manager](t)(New(memstore.New(), cfg))
		e, err := m.openEvent(bytesOf(hex.DecodeString(v.Entry)))
		if v.Why != "" {
			if !errors.Is(err, ErrGap) {
				t.Errorf("%s: %+v, %v, want ErrGap", v.Why, e, err)
			}
			continue
		}
		want := Event{Kind: EventSignedIn, Handle: handle, User: "ada", Before: before,
			Time: time.UnixMilli(1_800_000_000_000)}
		if v.Plain == all {
			want = Event{Kind: EventRevoked, Time: want.Time}
		}
		if err != nil || e != want {
			t.Errorf("%s is read as %+v, %v", v.Plain, e, err)
		}
		m.keys = &ticket.Ring{}
		if text := m.sealEvent(e); string(text) != v.Plain {
			t.Errorf("%s is written as %s", v.Plain, text)
		}
	}
	sameVectors(t, "events.json", vectors)
}

const (
	urlencoded   = "application/x-www-form-urlencoded"
	multipartXYZ = "multipart/form-data; boundary=xyz"
)

// part returns a part of a multipart body.
func part(header, value string) string {
	return "--xyz\r\nContent-Disposition: form-data; " + header + "\r\n\r\n" + value + "\r\n"
}

// TestFormTokenIsFoundAndTheBodyStaysWhole: formToken reads a bounded part of the body, and the
// handler still reads all of it.
func TestFormTokenIsFoundAndTheBodyStaysWhole(t *testing.T) {
	large := strings.Repeat("x", 70<<10)
	for _, tt := range []struct {
		name, kind, body, want string
		maxRead                int
	}{
		{"first", urlencoded, "csrf_token=abc&text=" + large, "abc", 8 << 10},
		{"last", urlencoded + "; charset=UTF-8", "a=1&b=&&c&csrf_token=abc", "abc", 100},
		{"escaped", urlencoded, "csrf%5Ftoken=a%2Db%5F", "a-b_", 100},
		{"two", urlencoded, "csrf_token=abc&csrf_token=def", "abc", 100},
		{"another name", urlencoded, "xcsrf_token=abc&csrf_token_=def&CSRF_TOKEN=ghi", "", 100},
		{"broken escape", urlencoded, "csrf_token=%zz&csrf_token=%", "", 100},
		{"semicolons", urlencoded, "a=1;csrf_token=abc", "", 100},
		{"after 64 KiB", urlencoded, "text=" + large + "&csrf_token=abc", "", 64 << 10},
		{"many empty fields", urlencoded, strings.Repeat("&", 70<<10) + "csrf_token=abc", "", 64 << 10},
		{"empty", urlencoded, "", "", 0},
		{"multipart", multipartXYZ, part(`name="csrf_token"`, "abc") + part(`name="f"; filename="f"`, large) + "--xyz--",
			"abc", 8 << 10},
		{"multipart, last", multipartXYZ, part(`name="a"`, "1") + part(`name="csrf_token"`, "abc") + "--xyz--", "abc", 1 << 10},
		{"multipart, after 64 KiB", multipartXYZ,
			part(`name="f"; filename="f"`, large) + part(`name="csrf_token"`, "abc") + "--xyz--", "", 64 << 10},
		{"multipart, a file", multipartXYZ, part(`name="csrf_token"; filename="f"`, "abc") + "--xyz--", "", 1 << 10},
		{"multipart, long", multipartXYZ, part(`name="csrf_token"`, large) + "--xyz--", large[:100], 8 << 10},
		{"multipart without a boundary", "multipart/form-data", part(`name="csrf_token"`, "abc") + "--xyz--", "", 0},
		{"JSON", "application/json", `{"csrf_token":"abc"}`, "", 0},
		{"text/plain, which a form may use", "text/plain", "csrf_token=abc", "", 0},
		{"no type", "", "csrf_token=abc", "", 0},
		{"two types", urlencoded + ", " + urlencoded, "csrf_token=abc", "", 0},
	} {
		counted := &countingReader{r: strings.NewReader(tt.body)}
		r := httptest.NewRequest("POST", "/", io.NopCloser(counted))
		r.Header.Set("Content-Type", tt.kind)
		got, err := formToken(r)
		if got != tt.want || err != nil {
			t.Errorf("%s: %.60q, %v, want %q", tt.name, got, err, tt.want)
		}
		if counted.n > tt.maxRead {
			t.Errorf("%s: read %d bytes, at most %d", tt.name, counted.n, tt.maxRead)
		}
		if rest, err := io.ReadAll(r.Body); err != nil || string(rest) != tt.body {
			t.Errorf("%s: the handler reads %d bytes, %v, want %d", tt.name, len(rest), err, len(tt.body))
		}
	}
}

// TestFormTokenReportsABrokenBody: formToken returns the error, and the handler's body ends with
// the same error.
func TestFormTokenReportsABrokenBody(t *testing.T) {
	errReset := errors.New("connection reset")
	for _, tt := range []struct{ kind, body string }{
		{urlencoded, "a=1&b="}, {multipartXYZ, part(`name="a"`, "1") + "--xy"},
		{multipartXYZ, part(`name="csrf_token"`, "ab")[:60]},
	} {
		r := httptest.NewRequest("POST", "/",
			io.NopCloser(io.MultiReader(strings.NewReader(tt.body), iotest.ErrReader(errReset))))
		r.Header.Set("Content-Type", tt.kind)
		if _, err := formToken(r); !errors.Is(err, errReset) {
			t.Errorf("%q: %v", tt.body, err)
		}
		if rest, err := io.ReadAll(r.Body); !errors.Is(err, errReset) || string(rest) != tt.body {
			t.Errorf("%q: the handler reads %q, %v", tt.body, rest, err)
		}
	}
}

// countingReader counts the bytes that are read.
type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

// FuzzFormToken: formToken finds what net/http finds, and the handler reads the whole body.
func FuzzFormToken(f *testing.F) {
	f.Add(urlencoded, []byte("csrf_token=abc"))
	f.Add(multipartXYZ, []byte(part(`name="csrf_token"`, "abc")+"--xyz--"))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		if len(body) >= maxFormPeek {
			return
		}
		request := func() *http.Request {
			r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
			r.Header.Set("Content-Type", kind)
			return r
		}
		r, theirs := request(), request()
		got, err := formToken(r)
		if rest, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(rest, body) {
			t.Fatalf("the handler reads %q, %v, want %q", rest, err, body)
		}
		parsing := theirs.ParseMultipartForm(1 << 20)
		want := theirs.PostForm.Get(CSRFField)
		if parsing == nil || errors.Is(parsing, http.ErrNotMultipart) {
			if want != got && !(len(want) > 100 && got == want[:100]) {
				t.Errorf("%q: %q, net/http finds %q; %v", body, got, want, err)
			}
		}
	})
}

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

// TestAbsentObserverAllocatesNothing: without Observers, a call of the store and an event pay for
// nothing.
func TestAbsentObserverAllocatesNothing(t *testing.T) {
	var none *observers
	ctx, id, events := t.Context(), driver.ID{Bucket: 1}, []Event{{Kind: EventCreated}}
	if got := testing.AllocsPerRun(100, func() {
		observed, o := none.observe(ctx, OperationLoad, id)
		o.uncached()
		o.end(errStorePanicked)
		o.abandon()
		none.events(observed, events)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
