// Package load sends prepared HTTP/1.1 requests on connections that stay open.
//
// It runs on the same cores as the servers, so it does as little as possible, and the same for
// every server. A request takes one write, usually one read, and no allocation. The client of
// net/http would cost more than some of the servers.
package load

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// Response is the response to a request. Its slices are valid until the next request of the
// connection.
type Response struct {
	Status int
	Body   []byte
	Size   int // bytes of header and body

	header []byte // the lines after the status line
}

// Cookie returns the last cookie that the response sets, as "name=value". It skips deletions, and
// returns "" without one.
func (r Response) Cookie() string {
	var last string
	for line := range bytes.Lines(r.header) {
		name, value, _ := bytes.Cut(line, []byte(": "))
		if !bytes.EqualFold(name, []byte("Set-Cookie")) {
			continue
		}
		pair, _, _ := bytes.Cut(bytes.TrimSpace(value), []byte(";"))
		if !bytes.HasSuffix(pair, []byte("=")) {
			last = string(pair)
		}
	}
	return last
}

// Header returns the header lines as received.
func (r Response) Header() string { return string(r.header) }

// Request returns a request as a browser sends it. cookie is "name=value", or "" for none.
func Request(method, path, cookie string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: bench.example\r\n", method, path)
	b.WriteString("User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
		"Accept-Language: en-GB,en;q=0.5\r\n" +
		"Sec-Fetch-Site: same-origin\r\n")
	if cookie != "" {
		fmt.Fprintf(&b, "Cookie: %s\r\n", cookie)
	}
	if method != "GET" {
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// conn is a connection that stays open.
type conn struct {
	net.Conn
	buf []byte
	n   int // bytes in buf that belong to the current response
}

func newConn(c net.Conn) *conn { return &conn{Conn: c, buf: make([]byte, 4<<10)} }

// do sends a request and reads the response.
func (c *conn) do(request []byte) (Response, error) {
	if _, err := c.Write(request); err != nil {
		return Response{}, err
	}
	c.n = 0
	var r Response
	head := 0
	for head == 0 {
		if err := c.fill(); err != nil {
			return r, err
		}
		if end := bytes.Index(c.buf[:c.n], []byte("\r\n\r\n")); end >= 0 {
			head = end + 4
		}
	}
	length, err := r.parse(c.buf[:head])
	if err != nil {
		return r, err
	}
	r.Size = head + length
	for c.n < r.Size {
		if err := c.fill(); err != nil {
			return r, err
		}
	}
	if c.n > r.Size {
		return r, errors.New("the response is longer than its Content-Length")
	}
	_, err = r.parse(c.buf[:head]) // fill may have moved the header
	r.Body = c.buf[head:r.Size]
	return r, err
}

// fill reads more of the response. It enlarges the buffer if it is full.
func (c *conn) fill() error {
	if c.n == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	n, err := c.Read(c.buf[c.n:])
	c.n += n
	if n > 0 {
		return nil
	}
	return err
}

// parse parses the status line and the header, and returns the length of the body.
func (r *Response) parse(head []byte) (int, error) {
	line, header, _ := bytes.Cut(head, []byte("\r\n"))
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, fmt.Errorf("not an HTTP/1.1 response: %q", line)
	}
	r.header = header
	var err error
	if r.Status, err = atoi(line[9:12]); err != nil {
		return 0, fmt.Errorf("status line %q: %w", line, err)
	}
	const name = "Content-Length: "
	at := bytes.Index(head, []byte("\r\n"+name))
	if at < 0 {
		return 0, errors.New("the response has no Content-Length")
	}
	text, _, _ := bytes.Cut(head[at+2+len(name):], []byte("\r\n"))
	return atoi(text)
}

// atoi is strconv.Atoi for bytes. It does not allocate, because the string does not outlive the
// call.
func atoi(b []byte) (int, error) {
	n, err := strconv.ParseUint(string(b), 10, 31)
	return int(n), err
}
