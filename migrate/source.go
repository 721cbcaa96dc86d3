package migrate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"
)

// Source reads and ends the sessions of another library. It is safe for concurrent use.
type Source interface {
	// ID returns the id of the old session that a request header names. It does no I/O. The id is
	// what only the visitor's browser knows, at least 16 bytes. The bool is false if the header has
	// no cookie that the old library would look at.
	ID(h http.Header) (id string, ok bool)

	// Load returns the old session. Errors: [ErrNone]; [ErrDecode]. Every other error means that
	// the source could not answer, and the visitor gets status 503.
	Load(ctx context.Context, id string) (*Old, error)

	// End ends the old session, permanently. It is no error if there is none. Coatcheck calls it
	// only with an id that Load has found.
	End(ctx context.Context, id string) error

	// Cookies returns the names, the paths and the domains of the old library's cookies, usually
	// one. The first name tells two sources apart.
	Cookies() []*http.Cookie
}

// Keeper is a Source that finds an old session by the handle of the session that continues it. With
// [Options].KeepUntil, an old session so ends at once when the new one does. Without it, only the
// end of the cookie's own time ends an old session that is kept.
type Keeper interface {
	// Keep stores which old session the session with this handle continues, until the given time.
	Keep(ctx context.Context, handle, id string, until time.Time) error
	// EndKept ends the old session that the session with this handle continues, if there is one.
	EndKept(ctx context.Context, handle string) error
}

// Old is a session of another library.
type Old struct {
	// Values are the session's values as the old library would return them.
	Values map[any]any
	// Authenticated is when the user signed in, if the library knows it. Otherwise it is zero.
	Authenticated time.Time
	// Deadline is when the old session ends, used or not. Zero: there is no such time.
	Deadline time.Time
	// Expires is when the old session ends if it is not used. It is never zero.
	Expires time.Time
	// Shared says that another visitor may have the same id: signed cookies with the same values
	// are equal. Requests then do not share the session, unless a user is signed in.
	Shared bool
}

// Errors of a Source. Test for them with errors.Is.
var (
	// ErrNone means that there is no old session with this id.
	ErrNone = errors.New("migrate: no such session")
	// ErrDecode means that the old session is there and cannot be read.
	ErrDecode = errors.New("migrate: the old session does not decode")
)

// Get stores a value of the old session in the variable that into points to, and reports whether it
// did. A value of another type is converted through JSON: so a number of a JSON codec, which is a
// float64, becomes an int64, and a map becomes a struct. Get stores nothing if there is no such
// value, or if it does not convert.
func (o *Old) Get(key, into any) bool {
	value := o.Values[key]
	if value == nil {
		return false
	}
	to := reflect.ValueOf(into).Elem()
	if v := reflect.ValueOf(value); v.Type().AssignableTo(to.Type()) {
		to.Set(v)
		return true
	}
	text, err := json.Marshal(value)
	if err != nil {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	converted := reflect.New(to.Type())
	if d.Decode(converted.Interface()) != nil {
		return false
	}
	to.Set(converted.Elem())
	return true
}

// maxOld is the largest old session that is decoded, in bytes.
const maxOld = 1 << 20

// decodeGob decodes a gob into v. Package gob may panic on hostile data: that is an error, too.
func decodeGob(b []byte, v any) (err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("%w: gob panicked: %v", ErrDecode, why)
		}
	}()
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(v); err != nil {
		return fmt.Errorf("%w: %v", ErrDecode, err)
	}
	return nil
}

// decodeJSON decodes a JSON object.
func decodeJSON(b []byte) (map[any]any, error) {
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDecode, err)
	}
	return anyKeys(m), nil
}

func anyKeys(m map[string]any) map[any]any {
	values := make(map[any]any, len(m))
	for k, v := range m {
		values[k] = v
	}
	return values
}

// cookieOf returns the value of the first cookie with this name, as the old libraries do.
func cookieOf(h http.Header, name string) (string, bool) {
	c, err := (&http.Request{Header: h}).Cookie(name)
	if err != nil || len(c.Value) < minID || len(c.Value) > maxCookie {
		return "", false
	}
	return c.Value, true
}

// named returns a cookie with a name and a scope.
func named(name, path, domain string) *http.Cookie {
	c := http.Cookie{Name: name, Path: cmp.Or(path, "/"), Domain: domain} //nolint:gosec // no value
	return &c
}

// Bounds of what a cookie of an old session may have, in bytes.
const (
	minID     = 16
	maxCookie = 8 << 10
)
