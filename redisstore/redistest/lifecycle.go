package redistest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	startLimit = time.Minute // until a server answers
	stopLimit  = time.Minute // until a server has shut down, which waits 10 s for replicas
	portTries  = 10
)

// errPortTaken makes start try another port.
var errPortTaken = errors.New("another process listens on its port: end that process")

// start starts a node and waits until it answers.
func (k *kit) start(as kind, extra ...string) (*Node, error) {
	dir, err := os.MkdirTemp("", "redistest") // a socket's path has at most some 100 bytes
	if err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	n := &Node{kit: k, kind: as, extra: extra, dir: dir}
	for range portTries {
		err = n.startOnNewPorts()
		if !errors.Is(err, errPortTaken) {
			break
		}
		releasePort(n.port)
		releasePort(n.busPort)
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// startOnNewPorts reserves ports, writes the node's files and starts the process.
func (n *Node) startOnNewPorts() (err error) {
	if n.port, err = reservePort(); err != nil {
		return err
	}
	if n.kind == clustered {
		if n.busPort, err = reservePort(); err != nil {
			return err
		}
	}
	if err := n.configure(); err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.launch()
}

// launch starts the process and waits until it answers. The caller holds mu.
func (n *Node) launch() error {
	log, err := os.OpenFile(n.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	defer log.Close()
	begin, _ := log.Seek(0, io.SeekEnd)
	args := append(n.kit.Server.Argv[1:len(n.kit.Server.Argv):len(n.kit.Server.Argv)], n.path("server.conf"))
	if n.kind == sentinel {
		args = append(args, "--sentinel")
	}
	cmd := exec.Command(n.kit.Server.Argv[0], args...) //nolint:gosec,noctx // the caller's choice
	cmd.Dir, cmd.Stdout, cmd.Stderr = n.dir, log, log
	cmd.Env = append(os.Environ(), n.kit.Server.Env...)
	proc, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	n.proc, n.paused = proc, false
	return poll(startLimit, func() error { return n.ready(begin) })
}

// ready returns nil if the server answers, and a final error if it has ended. The log of this start
// begins at begin.
func (n *Node) ready(begin int64) error {
	_, err := n.ask("PING")
	switch {
	case err == nil:
		return nil
	case strings.HasPrefix(err.Error(), "NOAUTH"):
		return final{errors.New("redistest: Options.Config sets a password: " +
			`use Options.Users instead: "default on >secret ~* &* +@all"`)}
	case n.proc.running():
		return err
	}
	if strings.Contains(n.Log()[begin:], "Address already in use") {
		return final{fmt.Errorf("redistest: %s: %w", n.Addr(), errPortTaken)}
	}
	return final{fmt.Errorf("redistest: %s did not start: %v\n%s", n.kit.Server.Name, n.proc.err, n.logTail())}
}

// Stop asks the server to shut down and waits until it has ended. A primary first lets its replicas
// catch up. Stop resumes a paused server. After a minute it kills the server and returns an error.
// Stop does nothing if the server is not running.
func (n *Node) Stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stop()
}

// stop is Stop for a caller that holds mu.
func (n *Node) stop() error {
	if !n.proc.running() {
		return nil
	}
	if n.paused {
		_ = n.signal(resume) // a paused server cannot shut down; if this fails, it is killed below
		n.paused = false
	}
	_ = n.signal(terminate) // the server may have ended by itself
	select {
	case <-n.proc.ended:
		return nil
	case <-time.After(stopLimit):
		err := fmt.Errorf("redistest: %s did not stop within %v and was killed\n%s", n.Addr(), stopLimit, n.logTail())
		return errors.Join(err, n.proc.kill())
	}
}

// Kill ends the server at once, as a crash does (SIGKILL), and waits until it has ended. Kill does
// nothing if the server is not running.
func (n *Node) Kill() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.proc.running() {
		return nil
	}
	n.paused = false
	return n.proc.kill()
}

// Pause freezes the server (SIGSTOP). Connections stay open, and nothing answers until Resume.
// Pause returns an error if the server is not running.
func (n *Node) Pause() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.signal(pause); err != nil {
		return fmt.Errorf("redistest: pause %s: %w", n.Addr(), err)
	}
	n.paused = true
	return nil
}

// Resume continues a paused server (SIGCONT). Resume returns an error if the server is not running.
func (n *Node) Resume() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.signal(resume); err != nil {
		return fmt.Errorf("redistest: resume %s: %w", n.Addr(), err)
	}
	n.paused = false
	return nil
}

// signal sends a signal to the server. It returns an error if the server is not running.
func (n *Node) signal(s os.Signal) error {
	if !n.proc.running() {
		return errors.New("the server is stopped: call Restart")
	}
	return n.proc.cmd.Process.Signal(s)
}

// Restart stops the server if it is running, starts it again, and waits until it answers. Port,
// directory and configuration stay the same. The server loads what it had on disk. Without
// persistence it is empty.
func (n *Node) Restart() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.stop(); err != nil {
		return err
	}
	return n.launch()
}

// Close kills the server and removes its directory. Further calls do nothing.
func (n *Node) Close() error {
	if n == nil {
		return nil
	}
	err := n.Kill()
	releasePort(n.port)
	releasePort(n.busPort)
	return errors.Join(err, poll(settleLimit, func() error { // a child may still create a file
		return os.RemoveAll(n.dir)
	}))
}
