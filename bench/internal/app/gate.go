package app

import (
	"errors"
	"time"
)

// gate stops one slow request in the middle, so that a sign-out can overtake it. Nothing has to
// sleep.
type gate struct{ arrived, opened chan struct{} }

func newGate() *gate { return &gate{arrived: make(chan struct{}), opened: make(chan struct{})} }

// pass is called by the slow request. It returns when the gate has been opened.
func (g *gate) pass() error {
	if err := meet(g.arrived, nil); err != nil {
		return err
	}
	return meet(nil, g.opened)
}

// wait returns when a slow request has arrived at the gate.
func (g *gate) wait() error { return meet(nil, g.arrived) }

// open lets the slow request continue.
func (g *gate) open() error { return meet(g.opened, nil) }

// meet sends or receives on the channel that is not nil. It gives up if the other side does not
// arrive.
func meet(send chan<- struct{}, receive <-chan struct{}) error {
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case send <- struct{}{}:
		return nil
	case <-receive:
		return nil
	case <-timer.C:
		return errors.New("the other request did not arrive at the gate within 10 s")
	}
}
