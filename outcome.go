package session

// outcome is what stops the next commit, and whether the handler knows. The zero outcome stops
// nothing.
type outcome struct {
	err      error // stops every further commit; the first one stays
	reported bool  // a call returned err to the handler
	final    bool  // the response reports err: whatever the handler does next is dropped
}

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

// forgive forgets err, unless the response already reports it.
func (o *outcome) forgive() {
	if !o.final {
		o.err, o.reported = nil, false
	}
}

// finish makes err the answer of the request.
func (o *outcome) finish(err error) { o.err, o.reported, o.final = err, true, true }
