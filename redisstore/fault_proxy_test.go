package redisstore_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coatcheck-go/session/redisstore"
)

// startFake starts a server that answers each command with the text that answer returns, in RESP3.
// It returns the server's address. Use it for replies that no real server can be made to give.
func startFake(t testing.TB, answer func(args []string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					frame, err := readFrame(in, nil)
					if err != nil {
						return
					}
					if _, err := c.Write([]byte(answer(arguments(frame)))); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// arguments parses a command, which is an array of bulk strings.
func arguments(frame []byte) (args []string) {
	_, rest, _ := strings.Cut(string(frame), "\r\n")
	for rest != "" {
		size, tail, _ := strings.Cut(rest, "\r\n")
		n, _ := strconv.Atoi(size[1:])
		args, rest = append(args, tail[:n]), tail[n+2:]
	}
	return args
}

// proxy forwards a store's connections to a server, and can cause faults.
type proxy struct {
	target atomic.Pointer[string] // where new connections lead
	listen net.Listener
	gate   sync.RWMutex // stall holds it
	pairs  sync.Map     // open connections

	odds   atomic.Int64 // the proxy breaks a connection at one command in odds; 0: never
	spared sync.Map     // by the address of a client: whether its connection does not break
	lost   atomic.Int64 // connections that the proxy broke

	scripts atomic.Int64 // the client dies at this script, counted down; 0: never
	dead    atomic.Bool

	losing atomic.Pointer[string] // the reply to the next script with this argument is lost

	recording atomic.Bool
	mu        sync.Mutex
	commands  []string // sent while recording
}

// recordCommands records all commands that clients send from now on.
func (p *proxy) recordCommands() { p.recording.Store(true) }

// hasSent reports whether a client has sent a command with all these parts since recordCommands.
func (p *proxy) hasSent(parts ...string) bool { return p.sent(parts...) > 0 }

// sent returns how many commands with all these parts clients have sent since recordCommands.
func (p *proxy) sent(parts ...string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, command := range p.commands {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(command, part) }) {
			n++
		}
	}
	return n
}

func (p *proxy) record(frame []byte) {
	if !p.recording.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands = append(p.commands, string(frame))
}

// loseNextReply forwards the next script that has this argument, and breaks the connection instead
// of forwarding the reply.
func (p *proxy) loseNextReply(argument string) { p.losing.Store(&argument) }

// dieAfter forwards n more scripts. It drops all later commands, as if the process had been killed.
func (p *proxy) dieAfter(n int64) { p.scripts.Store(n + 1) }

// alive counts a script that the server knows, and reports whether the client is still alive. It
// does not count the ends that a store repeats in the background.
func (p *proxy) alive(frame []byte) bool {
	script := bytes.Contains(frame[:min(len(frame), 40)], []byte("EVALSHA")) && !bytes.Contains(frame, []byte("\r\nagain\r\n"))
	if script && p.scripts.Load() > 0 && p.scripts.Add(-1) == 0 {
		p.dead.Store(true)
	}
	return !p.dead.Load()
}

// startProxy starts a proxy to the server at an address.
func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listen: l}
	p.lead(target)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		all.Wait()
	})
	return p
}

func (p *proxy) Addr() string { return p.listen.Addr().String() }

// lead makes new connections lead to another server. Open connections stay where they are.
func (p *proxy) lead(target string) { p.target.Store(&target) }

// stall forwards nothing until the caller calls resume. Connections stay open.
func (p *proxy) stall() (resume func()) {
	p.gate.Lock()
	return sync.OnceFunc(p.gate.Unlock)
}

// cut closes all connections.
func (p *proxy) cut() {
	p.pairs.Range(func(key, _ any) bool {
		key.(*pair).close()
		return true
	})
}

// pair is a connection of a client and the matching connection to the server.
type pair struct {
	client, server net.Conn
	mu             sync.Mutex
	open           int         // commands without a reply
	lost           bool        // later commands and replies are dropped
	deaf           atomic.Bool // the next reply breaks the connection
}

func (c *pair) close() {
	c.client.Close()
	c.server.Close()
}

func (p *proxy) serve(client net.Conn) {
	if p.dead.Load() {
		client.Close()
		return
	}
	server, err := net.Dial("tcp", *p.target.Load())
	if err != nil {
		client.Close()
		return
	}
	c := &pair{client: client, server: server}
	p.pairs.Store(c, nil)
	defer p.pairs.Delete(c)
	defer c.close()
	var both sync.WaitGroup
	both.Go(func() {
		defer c.close()
		p.forward(server, client, func(frame []byte, odds int64) bool {
			p.record(frame)
			argument := p.losing.Load()
			if argument != nil && bytes.Contains(frame, []byte("EVALSHA")) && bytes.Contains(frame, []byte(*argument)) &&
				p.losing.CompareAndSwap(argument, nil) {
				c.deaf.Store(true)
			}
			if spared, ok := p.spared.Load(client.RemoteAddr().String()); ok && spared.(*atomic.Bool).Load() {
				odds = 0
			}
			return p.alive(frame) && c.command(odds)
		})
	})
	both.Go(func() { defer c.close(); p.forward(client, server, c.reply) })
	both.Wait()
	if c.lost {
		p.lost.Add(1)
	}
}

// spareConnections returns patient options of a store whose connections do not break until end is
// called.
func (p *proxy) spareConnections(o redisstore.Options) (_ redisstore.Options, end func()) {
	spared := new(atomic.Bool)
	spared.Store(true)
	return onDial(o, func(conn net.Conn) net.Conn {
		p.spared.Store(conn.LocalAddr().String(), spared)
		return conn
	}), func() { spared.Store(false) }
}

// forward forwards the frames that pass lets through.
func (p *proxy) forward(to io.Writer, from io.Reader, pass func(frame []byte, odds int64) bool) {
	in := bufio.NewReader(from)
	for {
		frame, err := readFrame(in, nil)
		if err != nil {
			return
		}
		p.gate.RLock()
		if pass(frame, p.odds.Load()) {
			_, err = to.Write(frame)
		}
		p.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

// command decides whether the connection breaks at this command, and reports whether the command is
// forwarded. A connection breaks only when all its earlier commands have replies, and later
// commands are dropped. So a command without a reply has certainly not run.
func (c *pair) command(odds int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.lost && c.open == 0 && odds > 0 && rand.Int64N(odds) == 0 {
		c.lost = true
		c.client.(*net.TCPConn).CloseWrite()
	}
	if !c.lost {
		c.open++
	}
	return !c.lost
}

// reply reports whether a reply is forwarded. Push messages, which begin with ">", are no replies.
func (c *pair) reply(frame []byte, _ int64) bool {
	if c.deaf.Load() {
		c.close()
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if frame[0] != '>' {
		c.open--
	}
	return !c.lost
}

// readFrame appends one value of RESP3 to b, with all values that it contains.
func readFrame(in *bufio.Reader, b []byte) ([]byte, error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	b = append(b, line...)
	n, _ := strconv.Atoi(string(line[1 : len(line)-2]))
	switch line[0] {
	case '$', '=', '!':
		if n < 0 {
			return b, nil
		}
		bulk := make([]byte, n+2)
		_, err = io.ReadFull(in, bulk)
		return append(b, bulk...), err
	case '%', '|':
		n *= 2
	case '*', '~', '>':
	case '+', '-', ':', '_', '#', ',', '(':
		n = 0
	default:
		return nil, fmt.Errorf("%q is not RESP3", line)
	}
	for range n {
		if b, err = readFrame(in, b); err != nil {
			return nil, err
		}
	}
	return b, nil
}
