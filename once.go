package session

import (
	"context"

	"github.com/coatcheck-go/session/driver"
)

// Once is a value that is read once, by exactly one request: a notice after a redirect.
type Once[T any] string

// Put leaves t, in place of what was left before.
func (o Once[T]) Put(s *Session, t T) { put(s, driver.Key(o), t) }

// Take removes the value and returns it to exactly one caller. It commits the request's other changes with it. With nothing there
// it costs nothing. Errors: as [Session.Commit]; [ErrDecode], and then the value is gone.
func (o Once[T]) Take(ctx context.Context, s *Session) (t T, ok bool, err error) {
	return take[T](ctx, s, driver.Key(o))
}
