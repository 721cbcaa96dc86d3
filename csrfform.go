package session

import (
	"bufio"
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

// maxFormPeek is how many bytes of a form are searched for its CSRF token. The handler reads and
// limits the rest, such as files.
const maxFormPeek = 64 << 10

// formToken returns the CSRF token of a posted form, or "" if its first 64 KiB have none. It reads
// only as far as it needs. Then it replaces r.Body, so that the handler reads the body from the
// beginning.
func formToken(r *http.Request) (string, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || r.Body == nil || r.Body == http.NoBody {
		return "", nil //nolint:nilerr // a body that is not a form has no token
	}
	var find func(io.Reader) (string, error)
	switch {
	case kind == "application/x-www-form-urlencoded":
		find = findInURLEncoded
	case kind == "multipart/form-data" && params["boundary"] != "":
		find = func(b io.Reader) (string, error) {
			return findInMultipart(multipart.NewReader(b, params["boundary"]))
		}
	default:
		return "", nil
	}
	var read bytes.Buffer
	token, err := find(io.TeeReader(io.LimitReader(r.Body, maxFormPeek), &read))
	if read.Len() == maxFormPeek {
		err = nil // the limit cut the form off
	}
	r.Body = &replayed{Reader: io.MultiReader(&read, r.Body), Closer: r.Body}
	return token, err
}

// replayed is a request body whose beginning was already read.
type replayed struct {
	io.Reader
	io.Closer
}

// findInURLEncoded searches "name=value&…" pair by pair. Like url.ParseQuery, it ignores malformed
// pairs.
func findInURLEncoded(body io.Reader) (string, error) {
	b := bufio.NewReader(body)
	for {
		pair, err := b.ReadString('&')
		if name, value, _ := strings.Cut(strings.TrimSuffix(pair, "&"), "="); !strings.Contains(pair, ";") {
			name, badName := url.QueryUnescape(name)
			value, badValue := url.QueryUnescape(value)
			if name == CSRFField && badName == nil && badValue == nil {
				return value, nil
			}
		}
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", err
		}
	}
}

// findInMultipart searches part by part. A part that maxFormPeek cuts off has no token.
func findInMultipart(parts *multipart.Reader) (string, error) {
	for {
		p, err := parts.NextPart()
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if p.FormName() == CSRFField && p.FileName() == "" {
			value, err := io.ReadAll(io.LimitReader(p, 100)) // longer than any token
			return string(value), err
		}
	}
}
