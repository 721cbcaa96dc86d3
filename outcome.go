package session

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

// fail keeps err, unless it is nil or there is an earlier one.
func (o *outcome) fail(err error) {
	if o.err == nil {
		o.err = err
	}
}

// report returns err to the handler.
func (o *outcome) report() error {
	o.reported = o.err != nil
	return o.err
}

// forgive forgets err, unless all that follows is dropped.
func (o *outcome) forgive() {
	if o.phase == phaseOpen {
		o.err, o.reported = nil, false
	}
}

// stop drops all that follows, because of err.
func (o *outcome) stop(p phase, err error) { o.err, o.reported, o.phase = err, true, p }
