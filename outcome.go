package session

import "errors"

// outcome is what stops the next commit, and whether the handler knows. The zero outcome stops
// nothing.
type outcome struct {
	err      error // stops every further commit; the first one stays
	reported bool  // a call returned err to the handler
	phase    phase
}

// phase says what becomes of what the handler does next.
type phase uint8

const (
	phaseOpen      phase = iota // it is committed
	phaseDiscarded              // it is dropped; a response may still be written
	phaseAnswered               // it is dropped; the response reports err
)

// fail keeps err, unless it is nil or there is an earlier one. An unknown outcome replaces an
// earlier error, which may say that nothing was stored.
func (o *outcome) fail(err error) {
	unknown := errors.Is(err, ErrUnknownOutcome) && !errors.Is(o.err, ErrUnknownOutcome) && o.phase == phaseOpen
	if o.err == nil || unknown {
		o.err, o.reported = err, false
	}
}

// report returns err to the handler. A call that the outcome stops ends with it.
func (o *outcome) report() error { return o.returned(o.err) }

// returned notes that a call returns its own result to the handler, and returns it. A call that has
// asked the store ends with it: another goroutine may have failed the outcome meanwhile.
func (o *outcome) returned(result error) error {
	o.reported = o.reported || o.err != nil && errors.Is(result, o.err)
	return result
}

// forgive forgets err, unless all that follows is dropped.
func (o *outcome) forgive() {
	if o.phase == phaseOpen {
		o.err, o.reported = nil, false
	}
}

// stop drops all that follows, because of err.
func (o *outcome) stop(p phase, err error) { o.err, o.reported, o.phase = err, true, p }
