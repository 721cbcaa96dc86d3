package load

import (
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// respondInPieces returns a connection to a server that sends text as the response, a few bytes at
// a time.
func respondInPieces(t *testing.T, text string) *conn {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	go func() {
		defer func() { _ = server.Close() }()
		if _, err := server.Read(make([]byte, 4<<10)); err != nil {
			return
		}
		response, buf := iotest.HalfReader(strings.NewReader(text)), make([]byte, 13)
		for {
			n, err := response.Read(buf)
			if err != nil {
				return
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	return newConn(client)
}

func TestResponsesAreParsed(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name, response string
		status         int
		body, cookie   string
		err            string
	}{
		{name: "body", response: ok + "Content-Length: 5\r\nVary: Cookie\r\n\r\nhello", status: 200, body: "hello"},
		{name: "no body", response: "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n", status: 409},
		{name: "large", response: ok + "Content-Length: 10000\r\n\r\n" + long, status: 200, body: long},
		{
			name: "the last cookie with a value",
			response: ok + "Set-Cookie: a=1\r\nset-cookie: b=2; Path=/\r\nSet-Cookie: c=; Max-Age=0\r\n" +
				"Content-Length: 0\r\n\r\n",
			status: 200, cookie: "b=2",
		},
		{name: "chunked", response: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", err: "no Content-Length"},
		{name: "negative length", response: ok + "Content-Length: -5\r\n\r\n", err: "invalid syntax"},
		{name: "no HTTP", response: "-ERR unknown command\r\n\r\n", err: "not an HTTP/1.1 response"},
		{name: "cut off", response: ok + "Content-Le", err: "EOF"},
		{name: "too much", response: ok + "Content-Length: 1\r\n\r\n12", err: "longer than its Content-Length"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := respondInPieces(t, tt.response).do(Request("GET", "/", ""))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != tt.status || string(got.Body) != tt.body || got.Size != len(tt.response) {
				t.Errorf("got status %d, %d bytes of body, %d bytes in all", got.Status, len(got.Body), got.Size)
			}
			if got.Cookie() != tt.cookie {
				t.Errorf("got cookie %q, want %q", got.Cookie(), tt.cookie)
			}
		})
	}
}
