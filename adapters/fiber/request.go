package fibersession

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/utils/v2"
)

// description is a request as the Manager reads it, in one allocation. A Session keeps it, also
// beyond the request, while fasthttp overwrites its buffers. So what it keeps is copied.
type description struct {
	http.Request
	url    url.URL
	values [len(kept) + len(passing)]string // of the header
}

// The fields of the header that the Manager reads, in their canonical form. Those of passing are
// read only while it loads the session, so they are not copied.
var (
	kept    = [...]string{"Origin", "Sec-Fetch-Site"}
	passing = [...]string{"Cookie", "Authorization", "Content-Type", "Upgrade", "X-Csrf-Token"}
)

// describe returns the description of c's request, in the context parent.
func describe(parent context.Context, c fiber.Ctx, withBody bool) *description {
	d := &description{}
	d.Method, d.URL, d.Header = c.Method(), &d.url, make(http.Header, len(d.values))
	d.readHeader(c)
	target, host := c.OriginalURL(), c.Host()
	path := plainPath(target)
	d.copyTexts(&path, &host, &d.values[0], &d.values[1])
	d.url.Path, d.Host = path, host
	if path == "" {
		d.url = parse(strings.Clone(target))
	}
	if withBody && !c.Request().IsBodyStream() {
		d.Body = io.NopCloser(bytes.NewReader(c.Request().Body()))
	}
	if parent != context.Background() {
		d.Request = *d.WithContext(parent)
	}
	return d
}

// readHeader reads the header. Names are compared without case, since Fiber may keep them as the
// client sent them. Of a field that comes more than once, the Manager reads the first value only,
// except for Cookie, which fasthttp joins, and Authorization.
func (d *description) readHeader(c fiber.Ctx) {
	for key, value := range c.Request().Header.All() {
		name, i := known(key)
		switch {
		case name == "":
		case d.Header[name] == nil:
			d.values[i] = utils.UnsafeString(value)
			d.Header[name] = d.values[i : i+1 : i+1]
		case name == "Authorization":
			d.Header[name] = append(d.Header[name], utils.UnsafeString(value))
		}
	}
}

// known returns the canonical name of a field that the Manager reads, and its place.
func known(key []byte) (name string, place int) {
	for i, name := range kept {
		if strings.EqualFold(name, utils.UnsafeString(key)) {
			return name, i
		}
	}
	for i, name := range passing {
		if strings.EqualFold(name, utils.UnsafeString(key)) {
			return name, len(kept) + i
		}
	}
	return "", 0
}

// copyTexts replaces the texts by copies, in one allocation.
func (d *description) copyTexts(texts ...*string) {
	var all strings.Builder
	size := 0
	for _, t := range texts {
		size += len(*t)
	}
	all.Grow(size)
	for _, t := range texts {
		all.WriteString(*t)
	}
	rest := all.String()
	for _, t := range texts {
		*t, rest = rest[:len(*t)], rest[len(*t):]
	}
}

// forget drops what is not copied, when the session is loaded.
func (d *description) forget() {
	for _, name := range passing {
		delete(d.Header, name)
	}
	clear(d.values[len(kept):])
	d.Body = nil
}

// plainPath returns the path of a request target that needs no decoding, or "".
func plainPath(target string) string {
	if !strings.HasPrefix(target, "/") || strings.Contains(target, "%") {
		return ""
	}
	path, _, _ := strings.Cut(target, "?")
	return path
}

// parse parses a request target as net/http does. What that would refuse is a path as it is, as it
// is to Fiber's router.
func parse(target string) url.URL {
	if u, err := url.ParseRequestURI(target); err == nil {
		return *u
	}
	path, _, _ := strings.Cut(target, "?")
	return url.URL{Path: path}
}
