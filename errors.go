package session

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// Errors of this package. Test for them with errors.Is. The rest of an error's text names the field
// and the cause. It is for the log, and clients never see it.
var (
	// ErrNoManager means that the context does not come from a Manager.
	ErrNoManager = errors.New("session: no session in this context: wrap the handler in Manager.Handler")

	// ErrUnavailable means that the store did not answer. Nothing was stored, unless the error is
	// also an ErrUnknownOutcome.
	ErrUnavailable = errors.New("session: the store did not answer")

	// ErrUnknownOutcome means that the store did not answer after a change was sent. The change may
	// have been stored, or may still be stored. It is not sent again. It is also an ErrUnavailable.
	ErrUnknownOutcome = fmt.Errorf("%w: a change may or may not have been stored", ErrUnavailable)

	// ErrEnded means that the session ended or got a new token while the request was running. The
	// request's changes were refused.
	ErrEnded = errors.New("session: ended, or got a new token, while the request was running")

	// ErrHeaderSent means that a change needs a new cookie, but the response header was already
	// sent, or the handler takes over the connection. Nothing was stored.
	ErrHeaderSent = errors.New("session: the response cannot carry a new cookie any more")

	// ErrTooLarge means that the session would exceed Config.MaxSize or a limit of the format.
	ErrTooLarge = errors.New("session: over the size limit")

	// ErrLimit means that a call with a limit of its own was refused: AddWithin or SetWithin. The
	// call changed nothing, and the session takes more changes.
	ErrLimit = errors.New("session: over the limit of the call; nothing was changed")

	// ErrInvalid means that an argument is not valid: a field's name, a value, a sum, a Login, a
	// user or a handle.
	ErrInvalid = errors.New("session: invalid change")

	// ErrDecode means that a stored value has another type than the field that reads it.
	ErrDecode = errors.New("session: the stored value is of another type")

	// ErrSealed means that a stored value is sealed and no key of Config.Keys opens it.
	ErrSealed = ticket.ErrSealed

	// ErrAmbiguous means that the request carries two different tokens.
	ErrAmbiguous = errors.New("session: the request carries two different tokens")

	// ErrCrossOrigin means that another site caused the request; see Config.CrossOrigin.
	ErrCrossOrigin = errors.New("session: cross-origin request")

	// ErrCSRF means that the request has no CSRF token of its session; see Config.CSRF.
	ErrCSRF = errors.New("session: no valid CSRF token")

	// ErrNotSignedIn means that no user is signed in.
	ErrNotSignedIn = errors.New("session: nobody is signed in")

	// ErrNotFresh means that a user is signed in, but the route requires a newer or stronger
	// authentication.
	ErrNotFresh = errors.New("session: a newer or stronger authentication is needed")

	// ErrTooMany means that the user has as many sessions as Config.MaxPerUser allows.
	ErrTooMany = errors.New("session: the user has as many sessions as allowed")

	// ErrRevoked means that the user's sessions were revoked after this authentication began. The
	// user has to authenticate again.
	ErrRevoked = errors.New("session: the user's sessions were revoked after the authentication began")

	// ErrGap means that events are missing; see Manager.Events.
	ErrGap = errors.New("session: events are missing")

	// ErrNotFound means that the user has no session with this handle.
	ErrNotFound = errors.New("session: no such session of the user")
)

var statuses = []struct {
	err    error
	status int
	text   string // for the client
}{
	{ErrUnknownOutcome, http.StatusServiceUnavailable,
		"It is not known whether your change was saved. Please check before you try again."},
	{ErrUnavailable, http.StatusServiceUnavailable,
		"The service is not available at the moment. Please try again."},
	{ErrEnded, http.StatusConflict, "Your session has changed. Please reload and try again."},
	{ErrNotSignedIn, http.StatusUnauthorized, "Please sign in."},
	{ErrNotFresh, http.StatusUnauthorized, "Please sign in again."},
	{ErrRevoked, http.StatusUnauthorized, "Please sign in again."},
	{ErrTooMany, http.StatusConflict,
		"You are signed in on as many devices as allowed. Please sign out on one of them."},
	{ErrLimit, http.StatusConflict, "This is more than allowed. Nothing was changed."},
	{ErrNotFound, http.StatusNotFound, "There is no such session."},
	{ErrAmbiguous, http.StatusBadRequest,
		"The request carries two different session tokens. Please delete this site's cookies."},
	{ErrCrossOrigin, http.StatusForbidden, "Cross-origin request refused."},
	{ErrCSRF, http.StatusForbidden, "This page is out of date. Please reload it and try again."},
}

// Status returns the HTTP status with which [Error] responds to err. It is for servers that are not
// net/http, and for error handlers.
//
//   - 400: ErrAmbiguous
//   - 401: ErrNotSignedIn, ErrNotFresh, ErrRevoked
//   - 403: ErrCrossOrigin, ErrCSRF
//   - 404: ErrNotFound
//   - 409: ErrEnded, ErrLimit, ErrTooMany
//   - 503: ErrUnavailable
//   - the status of an application's error that has a method StatusCode() int, from 400 to 599
//   - 500: all other errors
func Status(err error) int {
	status, _ := answerTo(err)
	return status
}

// Message returns the sentence with which [Error] responds to err. It does not tell the cause.
func Message(err error) string {
	_, text := answerTo(err)
	return text
}

// answerTo returns the status and the text for the client.
func answerTo(err error) (status int, text string) {
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status, s.text
		}
	}
	var own interface{ StatusCode() int }
	if errors.As(err, &own) && own.StatusCode() >= 400 && own.StatusCode() < 600 {
		status = own.StatusCode()
		if text = http.StatusText(status); status < 500 && text != "" {
			return status, text + "."
		}
		return status, unexpected
	}
	return http.StatusInternalServerError, unexpected
}

const unexpected = "Something went wrong. The error has been logged."

// errExists means that the id of a new session is in use, or was until a minute ago. Only an id
// that was not drawn at random can be: see Session.Adopt.
var errExists = fmt.Errorf("%w: a session with the new id exists", ErrUnavailable)

// fromStore translates a store's error into an error of this package. It keeps the cause as text
// only, because a store's errors are not part of this package's API.
func fromStore(err error) error {
	var op *driver.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved):
		return ErrEnded
	case errors.Is(err, driver.ErrTooMany):
		return ErrTooMany
	case errors.Is(err, driver.ErrRevoked):
		return ErrRevoked
	case errors.Is(err, driver.ErrPrincipal):
		return fmt.Errorf("%w: %v", ErrInvalid, err)
	case errors.Is(err, driver.ErrUnknown):
		return fmt.Errorf("%w: %v", ErrUnknownOutcome, err)
	case errors.Is(err, driver.ErrExists):
		return errExists
	case errors.Is(err, ErrSealed): // of a field that a sign-in would have kept
		return err
	case errors.As(err, &op):
		return fromOp(op)
	default:
		return fmt.Errorf("%w: %v", ErrUnavailable, err)
	}
}

// fromOp translates a store's error about one operation.
func fromOp(err error) error {
	if errors.Is(err, driver.ErrTooLarge) {
		return fmt.Errorf("%w: %v", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %v", ErrInvalid, err)
}
