package storetest

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// maxScale is the scale of the last attempt at a case.
const maxScale = 8

// attempt is a run of a case that depends on limits of a few Units. On a slow machine such a case
// reaches a limit too late. So a failure counts only if the harness kept its Slack, or in the last
// attempt. The case is then tried again with limits and a Slack that are twice as long.
type attempt struct {
	begun  time.Time
	slack  time.Duration
	final  bool
	waited atomic.Int64 // the sum of all waits
	failed atomic.Bool
	first  sync.Once // the first failure
	void   bool      // the machine was too slow
}

// runTimed runs a case until an attempt at it counts.
func (c *testCase) runTimed(t *testing.T, h *Harness) {
	for scale := 1; ; scale *= 2 {
		scaled := *h
		scaled.Unit, scaled.Slack = h.Unit*time.Duration(scale), h.Slack*time.Duration(scale)
		a := &attempt{slack: scaled.Slack, final: scale == maxScale}
		k := &kit{T: t, h: &scaled, store: h.Open(t), attempt: a}
		a.begun = time.Now()
		done := make(chan struct{})
		go func() { // FailNow ends the goroutine
			defer close(done)
			c.run(k)
		}()
		<-done
		if !a.failed.Load() {
			return
		}
		if !a.void {
			t.Fail()
			return
		}
		t.Logf("the machine was too slow for a Slack of %v: the case runs again with longer limits", a.slack)
	}
}

// planned notes that the case waits for d: that is no slowness of the machine.
func (k *kit) planned(d time.Duration) {
	if k.attempt != nil {
		k.attempt.waited.Add(int64(d))
	}
}

// fail notes a failure, and whether it counts.
func (a *attempt) fail() {
	a.first.Do(func() {
		late := time.Since(a.begun) - time.Duration(a.waited.Load())
		a.void = late > a.slack && !a.final
	})
	a.failed.Store(true)
}

// The methods of testing.T that fail a test. In an attempt they fail the attempt.

func (k *kit) Fail() {
	if k.attempt == nil {
		k.T.Fail()
		return
	}
	k.attempt.fail()
}

func (k *kit) FailNow() {
	if k.attempt == nil {
		k.T.FailNow()
	}
	k.attempt.fail()
	runtime.Goexit()
}

func (k *kit) Failed() bool {
	return k.T.Failed() || k.attempt != nil && k.attempt.failed.Load()
}

func (k *kit) Error(args ...any) {
	k.Helper()
	k.Log(args...)
	k.Fail()
}

func (k *kit) Errorf(format string, args ...any) {
	k.Helper()
	k.Logf(format, args...)
	k.Fail()
}

func (k *kit) Fatal(args ...any) {
	k.Helper()
	k.Log(args...)
	k.FailNow()
}

func (k *kit) Fatalf(format string, args ...any) {
	k.Helper()
	k.Logf(format, args...)
	k.FailNow()
}
