package redistest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// ReplyError is an error reply of a server, such as "ERR unknown command …".
type ReplyError string

// Error returns the text of the reply.
func (e ReplyError) Error() string { return string(e) }

// roundTrip sends commands on a new connection to a unix socket, and returns the last reply. It
// returns the first error reply as a ReplyError.
func roundTrip(socket string, limit time.Duration, commands ...[]string) (any, error) {
	conn, err := (&net.Dialer{Timeout: limit}).DialContext(context.Background(), "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	var request []byte
	for _, args := range commands {
		request = appendCommand(request, args)
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	var reply any
	in := bufio.NewReader(conn)
	for range commands {
		if reply, err = readReply(in); err != nil {
			return nil, err
		}
		if e, ok := reply.(ReplyError); ok {
			return nil, e
		}
	}
	return reply, nil
}

func appendCommand(b []byte, args []string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, arg := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b
}

// readReply reads one RESP2 reply: a string, int64, []any, nil or ReplyError.
func readReply(in *bufio.Reader) (any, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 {
		return nil, fmt.Errorf("reply %q is not RESP", line)
	}
	mark, text := line[0], line[1:len(line)-2]
	switch mark {
	case '+':
		return text, nil
	case '-':
		return ReplyError(text), nil
	}
	number, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reply %q is not RESP", line)
	case mark == ':':
		return number, nil
	case number < 0: // "$-1" and "*-1"
		return nil, nil
	case mark == '$':
		bulk := make([]byte, number+2)
		_, err := io.ReadFull(in, bulk)
		return string(bulk[:number]), err
	case mark == '*':
		return readArray(in, int(number))
	}
	return nil, fmt.Errorf("reply %q is not RESP2", line)
}

func readArray(in *bufio.Reader, n int) (any, error) {
	array := make([]any, n)
	for i := range array {
		var err error
		if array[i], err = readReply(in); err != nil {
			return nil, err
		}
	}
	return array, nil
}
