package session

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// What can go wrong. Test with errors.Is. The text that follows in an error's message is for the log: it names the field and
// the cause, and never goes to a client.
var (
	// ErrNoManager: the context does not come from a Manager.
	ErrNoManager = errors.New("session: no session in this context: wrap the handler in Manager.Handler")
	// ErrUnavailable: the store did not answer. Nothing was stored.
	ErrUnavailable = errors.New("session: the store did not answer")
	// ErrUnknownOutcome: the store did not answer a change that was sent. It may have been stored, or may be yet; it is not sent
	// again. It is an ErrUnavailable too.
	ErrUnknownOutcome = fmt.Errorf("%w: a change may or may not have been stored", ErrUnavailable)
	// ErrEnded: the session ended, or got another token, while the request ran. Its changes were refused.
	ErrEnded = errors.New("session: ended, or under a new token, while the request was running")
	// ErrHeaderSent: a change needs a new cookie, and the response header has left. Nothing was stored.
	ErrHeaderSent = errors.New("session: too late for a new cookie: the response header has left")
	// ErrTooLarge: the session would be over Config.MaxSize, or a bound of the format.
	ErrTooLarge = errors.New("session: over the size limit")
	// ErrInvalid: a field's name, a value or a sum that the format does not allow; a Login out of its bounds; a text that is no handle.
	ErrInvalid = errors.New("session: invalid change")
	// ErrDecode: a stored value is of another type than the field that reads it.
	ErrDecode = errors.New("session: the stored value is of another type")
	// ErrSealed: a stored value is sealed, and no key of Config.Keys opens it.
	ErrSealed = ticket.ErrSealed
	// ErrAmbiguous: the request carries two different tokens.
	ErrAmbiguous = errors.New("session: the request carries two different tokens")
	// ErrCrossOrigin: another site caused the request (net/http.CrossOriginProtection).
	ErrCrossOrigin = errors.New("session: cross-origin request")
	// ErrCSRF: the request has no CSRF token of its session. See Config.CSRF.
	ErrCSRF = errors.New("session: no valid CSRF token")
	// ErrNotSignedIn: nobody is signed in.
	ErrNotSignedIn = errors.New("session: nobody is signed in")
	// ErrNotFresh: somebody is signed in, and the route asks for a newer or stronger authentication.
	ErrNotFresh = errors.New("session: a newer or stronger authentication is needed")
	// ErrTooMany: the user has as many sessions as Config.MaxPerUser allows.
	ErrTooMany = errors.New("session: the user has as many sessions as allowed")
	// ErrRevoked: the user's sessions were revoked after this authentication began. It has to begin anew.
	ErrRevoked = errors.New("session: the user's sessions were revoked since the authentication began")
	// ErrGap: events are missing here; see Manager.Events.
	ErrGap = errors.New("session: events are missing")
	// ErrNotFound: the user has no session of this handle, whoever else may.
	ErrNotFound = errors.New("session: no such session of the user")
)

var statuses = []struct {
	err    error
	status int
	text   string // what the client is told
}{
	{ErrUnavailable, http.StatusServiceUnavailable, "The service is not available at the moment. Please try again."},
	{ErrEnded, http.StatusConflict, "Your session has changed meanwhile. Please reload and try again."},
	{ErrNotSignedIn, http.StatusUnauthorized, "Please sign in."},
	{ErrNotFresh, http.StatusUnauthorized, "Please sign in again."},
	{ErrRevoked, http.StatusUnauthorized, "Please sign in again."},
	{ErrTooMany, http.StatusConflict, "You are signed in on as many devices as allowed. Please sign out on one of them."},
	{ErrNotFound, http.StatusNotFound, "There is no such session."},
	{ErrAmbiguous, http.StatusBadRequest, "The request carries two different session tokens. Please delete this site's cookies."},
	{ErrCrossOrigin, http.StatusForbidden, "Cross-origin request refused."},
	{ErrCSRF, http.StatusForbidden, "This page is out of date. Please reload it and try again."},
}

// Status returns the HTTP status that [Error] answers err with: 503 for ErrUnavailable, 409 for ErrEnded, and ErrTooMany, 401 for
// ErrNotSignedIn, ErrNotFresh and ErrRevoked, 404 for ErrNotFound, 400 for ErrAmbiguous, 403 for ErrCrossOrigin and
// ErrCSRF, 500 otherwise. It is for servers that are not net/http.
func Status(err error) int {
	status, _ := answerTo(err)
	return status
}

func answerTo(err error) (status int, text string) {
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status, s.text
		}
	}
	return http.StatusInternalServerError, "Something went wrong. The error has been logged."
}

// fromStore turns what a store answered into what this package promises. The cause stays in the text alone: a store's errors
// are not API.
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
	case errors.Is(err, ErrSealed): // of a field that was to come along
		return err
	case errors.As(err, &op):
		return fromOp(op)
	default:
		return fmt.Errorf("%w: %v", ErrUnavailable, err)
	}
}

func fromOp(err error) error {
	if errors.Is(err, driver.ErrTooLarge) {
		return fmt.Errorf("%w: %v", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %v", ErrInvalid, err)
}
