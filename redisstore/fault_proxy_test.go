package redisstore_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// startFake starts a server that answers each command with what answer returns, in RESP3, and returns its address. It is for what no real
// server can be made to say.
func startFake(t testing.TB, answer func(args []string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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

// arguments reads a command: an array of bulk strings.
func arguments(frame []byte) (args []string) {
	_, rest, _ := strings.Cut(string(frame), "\r\n")
	for rest != "" {
		size, tail, _ := strings.Cut(rest, "\r\n")
		n, _ := strconv.Atoi(size[1:])
		args, rest = append(args, tail[:n]), tail[n+2:]
	}
	return args
}

// proxy stands between a store and a server, and can misbehave.
type proxy struct {
	target string
	listen net.Listener
	gate   sync.RWMutex // held by stall while nothing passes
	pairs  sync.Map     // of open connections
	odds   atomic.Int64 // one command in so many finds its connection lost; 0: none
	lost   atomic.Int64 // connections that were
	steps  atomic.Int64 // scripts that may still pass; with the one that is too many the client is dead to the server. 0: any number
	dead   atomic.Bool
	loses  atomic.Pointer[string] // the next script that has this argument is run, and its answer is lost with the connection
}

// loseNextReply runs the next script that has this argument, and loses its answer.
func (p *proxy) loseNextReply(argument string) { p.loses.Store(&argument) }

// dieAfter lets so many more scripts pass. All that comes after them goes nowhere, as from a process that was killed.
func (p *proxy) dieAfter(scripts int64) { p.steps.Store(scripts + 1) }

// script notes a command, and reports whether the client is alive.
func (p *proxy) script(frame []byte) bool {
	if p.steps.Load() > 0 && bytes.Contains(frame[:min(len(frame), 40)], []byte("EVAL")) && p.steps.Add(-1) == 0 {
		p.dead.Store(true)
	}
	return !p.dead.Load()
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: target, listen: l}
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

// stall lets nothing pass, on connections that stay open, until the function that it returns is called.
func (p *proxy) stall() (goOn func()) {
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

// pair is a client's connection and the one to the server that belongs to it.
type pair struct {
	client, server net.Conn
	mu             sync.Mutex
	open           int // commands that are not answered
	lost           bool
	deaf           atomic.Bool
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
	server, err := net.Dial("tcp", p.target)
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
		p.copy(server, client, func(frame []byte, odds int64) bool {
			if m := p.loses.Load(); m != nil && bytes.Contains(frame, []byte("EVALSHA")) && bytes.Contains(frame, []byte(*m)) && p.loses.CompareAndSwap(m, nil) {
				c.deaf.Store(true)
			}
			return p.script(frame) && c.command(frame, odds)
		})
	})
	both.Go(func() { defer c.close(); p.copy(client, server, c.reply) })
	both.Wait()
	if c.lost {
		p.lost.Add(1)
	}
}

// copy passes on whole frames that may says yes to.
func (p *proxy) copy(to io.Writer, from io.Reader, may func(frame []byte, odds int64) bool) {
	in := bufio.NewReader(from)
	for {
		frame, err := readFrame(in, nil)
		if err != nil {
			return
		}
		p.gate.RLock()
		if may(frame, p.odds.Load()) {
			_, err = to.Write(frame)
		}
		p.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

// command decides whether the client's connection is lost now. That happens only when all its commands are answered, and a command that
// comes later goes nowhere: so whatever the client is not answered has not run.
func (c *pair) command(_ []byte, odds int64) bool {
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

// readFrame appends one value of RESP3 to b, with all that is in it.
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
