package redistest

import (
	"os/exec"
	"runtime"
)

// process is a child process.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
	err  error         // how it ended; read it after gone
}

// startProcess starts a child that the kernel kills when this process ends, where it can (see tie).
//
// Linux ties the child to the thread that started it, not to the process. So one goroutine keeps
// that thread to itself until the child has ended; waiting for a child takes a thread anyway.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, gone: make(chan struct{})}
	started := make(chan error)
	tie(cmd)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.gone)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// running tells whether the child has not ended. A nil process has.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// kill ends the child at once and waits until it is gone.
func (p *process) kill() error {
	if err := killTied(p.cmd); err != nil && p.running() {
		return err
	}
	<-p.gone
	return nil
}
