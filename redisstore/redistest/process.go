package redistest

import (
	"os/exec"
	"runtime"
)

// process is a child process.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
	err   error         // the result of Wait; read it after ended
}

// startProcess starts a child process. If possible, the kernel kills the child when this process
// ends: see tie.
//
// Linux ties a child to the thread that started it, not to the process. So a goroutine reserves
// that thread until the child has ended. Waiting for a child takes a thread anyway.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	tie(cmd)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// running reports whether the child is running. A nil process is not.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the child at once, and waits until it has ended.
func (p *process) kill() error {
	if err := killTied(p.cmd); err != nil && p.running() {
		return err
	}
	<-p.ended
	return nil
}
