package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// Client is a set of connections to one server. Its methods are not safe for concurrent use.
type Client struct{ conns []*conn }

// Dial opens n connections to addr. They are closed when ctx ends.
func Dial(ctx context.Context, addr string, n int) (*Client, error) {
	c := &Client{}
	var dialer net.Dialer
	for range n {
		opened, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			c.Close()
			return nil, err
		}
		c.conns = append(c.conns, newConn(opened))
	}
	context.AfterFunc(ctx, c.Close)
	return c, nil
}

// Close closes the connections. It may be called more than once. Requests in flight fail.
func (c *Client) Close() {
	for _, conn := range c.conns {
		_ = conn.Close() // data in flight does not matter any more
	}
}

// Do sends one request and returns the response, whatever its status.
func (c *Client) Do(request []byte) (Response, error) { return c.conns[0].do(request) }

// Cookies sends a request n times and returns the cookies that the responses set. It repeats a
// request that fails with 503: on a busy machine, a server may give up on Redis.
func (c *Client) Cookies(request []byte, n int) ([]string, error) {
	cookies := make([]string, n)
	return cookies, c.each(func(i int, conn *conn) error {
		for ; i < n; i += len(c.conns) {
			response, err := conn.do(request)
			for tries := 1; err == nil && response.Status == 503 && tries < 3; tries++ {
				response, err = conn.do(request)
			}
			if err != nil {
				return err
			}
			if cookies[i] = response.Cookie(); response.Status != 200 || cookies[i] == "" {
				return fmt.Errorf("status %d, cookie %q, want 200 and a cookie: %s",
					response.Status, cookies[i], response.Body)
			}
		}
		return nil
	})
}

// Limit says when a Run stops: after a number of requests or, if Requests is 0, after a duration.
type Limit struct {
	Requests int
	Duration time.Duration
}

// Outcome is the result of a Run.
type Outcome struct {
	Requests, Errors int // a response with a status other than 200 is an error
	Elapsed          time.Duration
	Sent, Received   int64           // bytes of HTTP
	Latencies        []time.Duration // sorted
	FirstError       string          // status and body of the first error
}

// Percentile returns the latency that p percent of the requests did not exceed.
func (o Outcome) Percentile(p int) time.Duration {
	n := len(o.Latencies)
	if n == 0 {
		return 0
	}
	return o.Latencies[max(1, (n*p+99)/100)-1]
}

// Run sends requests on all connections concurrently. On a connection, it sends one after the
// other. Each connection has requests of its own (every len(connections)-th), as long as there are
// enough.
func (c *Client) Run(requests [][]byte, limit Limit) (Outcome, error) {
	parts := make([]Outcome, len(c.conns))
	start := time.Now()
	err := c.each(func(i int, conn *conn) error {
		worker := worker{conn: conn, stop: start.Add(limit.Duration)}
		for j := i % len(requests); j < len(requests); j += len(c.conns) {
			worker.requests = append(worker.requests, requests[j])
		}
		if limit.Requests > 0 {
			worker.count = share(limit.Requests, len(c.conns), i)
			if worker.count == 0 {
				return nil
			}
		}
		return worker.run(&parts[i])
	})
	total := Outcome{Elapsed: time.Since(start)}
	for _, part := range parts {
		total.Requests += part.Requests
		total.Errors += part.Errors
		total.Sent += part.Sent
		total.Received += part.Received
		total.Latencies = append(total.Latencies, part.Latencies...)
		if total.FirstError == "" {
			total.FirstError = part.FirstError
		}
	}
	slices.Sort(total.Latencies)
	return total, err
}

// share returns the part of total that the i-th of n workers takes.
func share(total, n, i int) int {
	if i < total%n {
		return total/n + 1
	}
	return total / n
}

// each calls f for all connections concurrently.
func (c *Client) each(f func(i int, conn *conn) error) error {
	errs := make([]error, len(c.conns))
	var all sync.WaitGroup
	for i, conn := range c.conns {
		all.Go(func() { errs[i] = f(i, conn) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
	}
	return errors.Join(errs...)
}

// worker sends the requests of one connection in a Run.
type worker struct {
	conn     *conn
	requests [][]byte
	count    int // 0: run until stop
	stop     time.Time
}

// run sends requests until the limit is reached, and records them in to.
func (w worker) run(to *Outcome) error {
	for last := time.Now(); ; {
		request := w.requests[to.Requests%len(w.requests)]
		response, err := w.conn.do(request)
		if err != nil {
			return err
		}
		now := time.Now()
		to.Requests++
		to.Sent += int64(len(request))
		to.Received += int64(response.Size)
		to.Latencies = append(to.Latencies, now.Sub(last))
		last = now
		if response.Status != 200 {
			to.Errors++
			if to.FirstError == "" {
				to.FirstError = fmt.Sprintf("%d %s", response.Status, response.Body)
			}
		}
		if to.Requests == w.count || w.count == 0 && !now.Before(w.stop) {
			return nil
		}
	}
}
