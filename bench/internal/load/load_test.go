package load

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRunSendsTheExactNumberOfRequests(t *testing.T) {
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1); r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.WriteString(w, "ok\n")
	}))
	defer server.Close()
	client, err := Dial(t.Context(), strings.TrimPrefix(server.URL, "http://"), 16)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	for _, n := range []int{3, 401} {
		served.Store(0)
		outcome, err := client.Run([][]byte{Request("GET", "/", "")}, Limit{Requests: n})
		if err != nil || outcome.Requests != n || len(outcome.Latencies) != n || outcome.Errors != 0 {
			t.Errorf("limit of %d requests: error %v, counted %d requests, %d errors",
				n, err, outcome.Requests, outcome.Errors)
		}
		if served.Load() != int64(n) {
			t.Errorf("limit of %d requests: the server got %d", n, served.Load())
		}
		if p50, p99 := outcome.Percentile(50), outcome.Percentile(99); p50 <= 0 || p99 < p50 {
			t.Errorf("p50 is %v and p99 is %v, want 0 < p50 <= p99", p50, p99)
		}
	}
	outcome, err := client.Run([][]byte{Request("POST", "/bad", "a=b")}, Limit{Duration: 20 * time.Millisecond})
	if err != nil || outcome.Errors != outcome.Requests || outcome.Requests < 16 {
		t.Errorf("failing requests: error %v, counted %d errors of %d requests", err, outcome.Errors, outcome.Requests)
	}
	if !strings.HasPrefix(outcome.FirstError, "418") {
		t.Errorf("first error is %q, want it to begin with status 418", outcome.FirstError)
	}
}

func TestCookiesRepeatsUnavailable(t *testing.T) {
	failures := atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if failures.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else {
			w.Header().Set("Set-Cookie", "a=b")
		}
		_, _ = io.WriteString(w, "ok\n")
	}))
	defer server.Close()
	client, err := Dial(t.Context(), strings.TrimPrefix(server.URL, "http://"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	failures.Store(2)
	if cookies, err := client.Cookies(Request("POST", "/", ""), 2); err != nil || cookies[1] != "a=b" {
		t.Errorf("after two failures: %q, %v, want the cookies", cookies, err)
	}
	failures.Store(3)
	if cookies, err := client.Cookies(Request("POST", "/", ""), 1); err == nil {
		t.Errorf("after three failures: %q, want an error", cookies)
	}
}

func TestRunFailsOnClosedConnections(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, err := Dial(t.Context(), listener.Addr().String(), 2)
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	_ = listener.Close()
	if _, err := client.Run([][]byte{Request("GET", "/", "")}, Limit{Requests: 10}); err == nil {
		t.Error("a Run on closed connections succeeded, want an error")
	}
}

func TestPercentileIsALatency(t *testing.T) {
	var o Outcome
	if o.Percentile(50) != 0 {
		t.Error("the percentile of no requests is not 0")
	}
	for i := range 100 {
		o.Latencies = append(o.Latencies, time.Duration(i+1))
	}
	if p50, p99, p100 := o.Percentile(50), o.Percentile(99), o.Percentile(100); p50 != 50 || p99 != 99 || p100 != 100 {
		t.Errorf("p50 %d, p99 %d, p100 %d", p50, p99, p100)
	}
}
