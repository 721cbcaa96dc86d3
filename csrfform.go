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

// maxFormPeek is how much of a form is searched for its CSRF token. What comes after it, such as files, is the handler's to read and
// to bound.
const maxFormPeek = 64 << 10

// formToken returns the CSRF token of a posted form, "" if there is none in its first 64 KiB. It reads no further than it needs, and
// gives the handler a body from the beginning.
func formToken(r *http.Request) (string, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || r.Body == nil || r.Body == http.NoBody {
		return "", nil //nolint:nilerr // what is no form has no token
	}
	var find func(io.Reader) (string, error)
	switch {
	case kind == "application/x-www-form-urlencoded":
		find = findInURLEncoded
	case kind == "multipart/form-data" && params["boundary"] != "":
		find = func(b io.Reader) (string, error) { return findInMultipart(multipart.NewReader(b, params["boundary"])) }
	default:
		return "", nil
	}
	var read bytes.Buffer
	token, err := find(io.TeeReader(io.LimitReader(r.Body, maxFormPeek), &read))
	if read.Len() == maxFormPeek {
		err = nil // that the form is cut off there is no fault of its own
	}
	r.Body = &replayed{Reader: io.MultiReader(&read, r.Body), Closer: r.Body}
	return token, err
}

// replayed is a body whose beginning was read before.
type replayed struct {
	io.Reader
	io.Closer
}

// findInURLEncoded searches "name=value&…" pair by pair, as url.ParseQuery reads them.
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

// findInMultipart searches part by part. What is cut off by maxFormPeek has no token.
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
			value, err := io.ReadAll(io.LimitReader(p, 100)) // more than a token has
			return string(value), err
		}
	}
}
