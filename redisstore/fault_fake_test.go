package redisstore_test

import (
	"bufio"
	"net"
	"strconv"
	"strings"
	"sync"
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
