package redistest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Node is one server: a standalone one, or a part of a Sentinel or Cluster topology. It keeps its
// address and its directory through Kill and Restart.
type Node struct {
	kit     *kit
	kind    kind
	extra   []string // lines of the configuration
	dir     string
	port    int
	busPort int // of a Cluster

	mu     sync.Mutex // held while the process changes
	proc   *process   // nil before the first start
	paused bool
}

// New starts a standalone server and waits until it answers. The caller closes it. In a test, use
// [Start].
func New(o Options) (*Node, error) {
	k, err := newKit(o)
	if err != nil {
		return nil, err
	}
	return k.start(standalone)
}

// Addr returns the address that the server listens on, such as "127.0.0.1:16379".
func (n *Node) Addr() string { return fmt.Sprintf("127.0.0.1:%d", n.port) }

// String names the server for a message: "redis-7.0 at 127.0.0.1:16379".
func (n *Node) String() string { return n.kit.Server.Name + " at " + n.Addr() }

// Port returns the port of Addr.
func (n *Node) Port() int { return n.port }

// Socket returns the path of the unix socket that the server listens on too. It speaks no TLS.
func (n *Node) Socket() string { return n.path("s") }

// Dir returns the server's directory, where an append-only file lies. Close removes it.
func (n *Node) Dir() string { return n.dir }

// Server returns the program that runs.
func (n *Node) Server() Server { return n.kit.Server }

// TLSConfig returns what a client needs to connect to Addr: it trusts the server's certificate and
// has one to show. It is nil without [Options.TLS]. The caller may change it.
func (n *Node) TLSConfig() *tls.Config {
	if n.kit.cert == nil {
		return nil
	}
	return n.kit.cert.client.Clone()
}

// PID returns the id of the server's process, of the last one if it is not running.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc.cmd.Process.Pid
}

// Running tells whether the server runs and is not paused.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc.running() && !n.paused
}

// Log returns what the server has logged since its first start.
func (n *Node) Log() string {
	text, err := os.ReadFile(n.path("log"))
	if err != nil {
		return "no log: " + err.Error()
	}
	return string(text)
}

// logTail returns the last lines of the log, for a message.
func (n *Node) logTail() string {
	lines := strings.Split(strings.TrimSpace(n.Log()), "\n")
	return fmt.Sprintf("log of %s:\n\t%s", n.Addr(), strings.Join(lines[max(0, len(lines)-15):], "\n\t"))
}

// commandLimit is how long Do waits for a reply.
const commandLimit = 10 * time.Second

// Do sends one command on a connection of its own, as a user who may do anything, and returns the
// reply: a string, an int64, a []any of replies, or nil. What the server replies as an error is a
// [ReplyError]; inside an array it is an element. Do waits at most 10 s, and fails at once when the
// server is stopped or paused. Commands that concern the connection's own past, such as WAIT, tell
// nothing here; Settle waits for replicas.
func (n *Node) Do(args ...string) (any, error) {
	if !n.Running() {
		return nil, fmt.Errorf("redistest: %s is stopped or paused: Restart or Resume it", n.Addr())
	}
	reply, err := n.ask(args...)
	if err != nil && !errors.As(err, new(ReplyError)) {
		err = fmt.Errorf("redistest: %s: %w", n.Addr(), err)
	}
	return reply, err
}

// ask is Do for a server in any state.
func (n *Node) ask(args ...string) (any, error) {
	if n.kit.password != "" && n.kind != sentinel {
		return roundTrip(n.Socket(), commandLimit, []string{"AUTH", adminUser, n.kit.password}, args)
	}
	return roundTrip(n.Socket(), commandLimit, args)
}

// text is Do for a reply that is a string.
func (n *Node) text(args ...string) (string, error) {
	reply, err := n.Do(args...)
	if err != nil {
		return "", err
	}
	s, ok := reply.(string)
	if !ok {
		return "", fmt.Errorf("redistest: %s: %s replied %v", n.Addr(), strings.Join(args, " "), reply)
	}
	return s, nil
}

// info returns one value of what INFO or CLUSTER INFO says, such as "master_link_status:up".
func (n *Node) info(field string, command ...string) (string, error) {
	text, err := n.text(command...)
	for line := range strings.Lines(text) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name == field {
			return value, nil
		}
	}
	return "", err
}
