package session

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	urlencoded   = "application/x-www-form-urlencoded"
	multipartXYZ = "multipart/form-data; boundary=xyz"
)

func part(header, value string) string {
	return "--xyz\r\nContent-Disposition: form-data; " + header + "\r\n\r\n" + value + "\r\n"
}

// TestFormToken: where the token is found, how much is read for it, and that the handler's body is whole.
func TestFormToken(t *testing.T) {
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
		{"a crowd of fields", urlencoded, strings.Repeat("&", 70<<10) + "csrf_token=abc", "", 64 << 10},
		{"empty", urlencoded, "", "", 0},
		{"multipart", multipartXYZ, part(`name="csrf_token"`, "abc") + part(`name="f"; filename="f"`, large) + "--xyz--", "abc", 8 << 10},
		{"multipart, last", multipartXYZ, part(`name="a"`, "1") + part(`name="csrf_token"`, "abc") + "--xyz--", "abc", 1 << 10},
		{"multipart, after 64 KiB", multipartXYZ, part(`name="f"; filename="f"`, large) + part(`name="csrf_token"`, "abc") + "--xyz--", "", 64 << 10},
		{"multipart, a file", multipartXYZ, part(`name="csrf_token"; filename="f"`, "abc") + "--xyz--", "", 1 << 10},
		{"multipart, long", multipartXYZ, part(`name="csrf_token"`, large) + "--xyz--", large[:100], 8 << 10},
		{"multipart without a boundary", "multipart/form-data", part(`name="csrf_token"`, "abc") + "--xyz--", "", 0},
		{"JSON", "application/json", `{"csrf_token":"abc"}`, "", 0},
		{"text/plain, as forms may be sent", "text/plain", "csrf_token=abc", "", 0},
		{"no type", "", "csrf_token=abc", "", 0},
		{"two types", urlencoded + ", " + urlencoded, "csrf_token=abc", "", 0},
	} {
		counted := &counting{r: strings.NewReader(tt.body)}
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
			t.Errorf("%s: the handler reads %d bytes, %v, and not the %d that were sent", tt.name, len(rest), err, len(tt.body))
		}
	}
}

// TestFormTokenOfABrokenBody: the error is told, and the handler's body ends with it, too.
func TestFormTokenOfABrokenBody(t *testing.T) {
	gone := errors.New("connection reset")
	for _, tt := range []struct{ kind, body string }{
		{urlencoded, "a=1&b="}, {multipartXYZ, part(`name="a"`, "1") + "--xy"}, {multipartXYZ, part(`name="csrf_token"`, "ab")[:60]},
	} {
		r := httptest.NewRequest("POST", "/", io.NopCloser(io.MultiReader(strings.NewReader(tt.body), iotest.ErrReader(gone))))
		r.Header.Set("Content-Type", tt.kind)
		if _, err := formToken(r); !errors.Is(err, gone) {
			t.Errorf("%q: %v", tt.body, err)
		}
		if rest, err := io.ReadAll(r.Body); !errors.Is(err, gone) || string(rest) != tt.body {
			t.Errorf("%q: the handler reads %q, %v", tt.body, rest, err)
		}
	}
}

type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

// FuzzFormToken: it finds what net/http finds, and the handler gets what was sent.
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
			t.Fatalf("the handler reads %q, %v, instead of %q", rest, err, body)
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
