package app

import (
	"errors"
	"time"
)

// gate stops one slow request in the middle, so that a sign-out can overtake it, without anybody sleeping.
type gate struct{ arrived, opened chan struct{} }

func newGate() *gate { return &gate{arrived: make(chan struct{}), opened: make(chan struct{})} }

// pass is called by the slow request: it returns when the gate has been opened.
func (g *gate) pass() error {
	if err := meet(g.arrived, nil); err != nil {
		return err
	}
	return meet(nil, g.opened)
}

// wait returns once a slow request is at the gate.
func (g *gate) wait() error { return meet(nil, g.arrived) }

// open lets the slow request go on.
func (g *gate) open() error { return meet(g.opened, nil) }

// meet sends or receives, whichever channel is not nil, and gives up when the other side does not come.
func meet(send chan<- struct{}, receive <-chan struct{}) error {
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case send <- struct{}{}:
		return nil
	case <-receive:
		return nil
	case <-timer.C:
		return errors.New("nobody came to the gate")
	}
}
