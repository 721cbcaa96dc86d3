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

// Node is one server: a standalone server, or a member of a Sentinel or Cluster topology. It keeps
// its address and directory through Kill and Restart.
type Node struct {
	kit     *kit
	kind    kind
	extra   []string // lines for the configuration file
	dir     string
	port    int
	busPort int // the port of the Cluster bus

	mu     sync.Mutex // held while the process changes
	proc   *process   // nil before the first start
	paused bool
}

// New starts a standalone server and waits until it answers. The caller closes the server. In a
// test, use [Start].
func New(o Options) (*Node, error) {
	k, err := newKit(o)
	if err != nil {
		return nil, err
	}
	return k.start(standalone)
}

// Addr returns the server's address, such as "127.0.0.1:16379".
func (n *Node) Addr() string { return fmt.Sprintf("127.0.0.1:%d", n.port) }

// String returns the server's name and address, such as "redis-7.0 at 127.0.0.1:16379".
func (n *Node) String() string { return n.kit.Server.Name + " at " + n.Addr() }

// Port returns the port of Addr.
func (n *Node) Port() int { return n.port }

// Socket returns the path of the server's unix socket. The socket never uses TLS.
func (n *Node) Socket() string { return n.path("s") }

// Dir returns the server's directory, which also holds the append-only file. Close removes it.
func (n *Node) Dir() string { return n.dir }

// Server returns the server program.
func (n *Node) Server() Server { return n.kit.Server }

// TLSConfig returns a client's configuration for connections to Addr. It trusts the server's
// certificate and has a client certificate. It is nil without [Options.TLS]. The caller may change
// it.
func (n *Node) TLSConfig() *tls.Config {
	if n.kit.cert == nil {
		return nil
	}
	return n.kit.cert.client.Clone()
}

// PID returns the id of the server's process. If the server is not running, that is its last
// process.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc.cmd.Process.Pid
}

// Running reports whether the server runs and is not paused.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc.running() && !n.paused
}

// Log returns the server's log since its first start.
func (n *Node) Log() string {
	text, err := os.ReadFile(n.path("log"))
	if err != nil {
		return "no log: " + err.Error()
	}
	return string(text)
}

// logTail returns the last lines of the log, for an error message.
func (n *Node) logTail() string {
	lines := strings.Split(strings.TrimSpace(n.Log()), "\n")
	return fmt.Sprintf("log of %s:\n\t%s", n.Addr(), strings.Join(lines[max(0, len(lines)-15):], "\n\t"))
}

// commandLimit is how long Do waits for a reply.
const commandLimit = 30 * time.Second

// Do sends one command on a new connection, as a user with all rights. It returns the reply: a
// string, an int64, a []any of replies, or nil. Do returns an error reply as a [ReplyError]. In an
// array, a ReplyError is an element.
//
// Do waits at most 30 s. It fails at once if the server is stopped or paused. Commands about
// earlier commands of the connection, such as WAIT, are useless here. To wait for replicas, use
// Settle.
func (n *Node) Do(args ...string) (any, error) {
	if !n.Running() {
		return nil, fmt.Errorf("redistest: %s is stopped or paused: call Restart or Resume", n.Addr())
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

// info returns one value of a reply to INFO or CLUSTER INFO, such as "up" for "master_link_status".
func (n *Node) info(field string, command ...string) (string, error) {
	text, err := n.text(command...)
	for line := range strings.Lines(text) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name == field {
			return value, nil
		}
	}
	return "", err
}
