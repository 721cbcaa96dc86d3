package redistest

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// settleLimit is how long to wait until servers agree. It is long because the machine may be busy.
const settleLimit = time.Minute

// final marks an error that does not go away with time.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// poll calls check until it returns nil or a final error. After the limit, poll returns check's
// last error.
func poll(limit time.Duration, check func() error) error {
	deadline := time.Now().Add(limit)
	for pause := 2 * time.Millisecond; ; pause = min(pause*3/2, 50*time.Millisecond) {
		err := check()
		if err == nil || errors.As(err, new(final)) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", limit, err)
		}
		time.Sleep(pause)
	}
}

// pollAndRepeat calls act, and then check until it returns nil or a final error. While check fails,
// it calls act again at each interval: the servers may have given up. After settleLimit it returns
// the last error.
func pollAndRepeat(interval time.Duration, act, check func() error) error {
	if err := act(); err != nil {
		return err
	}
	acted := time.Now()
	return poll(settleLimit, func() error {
		err := check()
		if err != nil && time.Since(acted) > interval {
			acted = time.Now()
			err = errors.Join(err, act())
		}
		return err
	})
}

// each calls do(0) … do(n-1) concurrently and joins their errors.
func each(n int, do func(i int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = do(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}
