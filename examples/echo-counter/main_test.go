package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

// asProgram makes the test binary the program.
const asProgram = "ECHO_COUNTER_IS_THE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is a process of echo-counter.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	url   string
	lines chan map[string]any
}

func start(t *testing.T, redis string) *program {
	t.Helper()
	p := &program{t: t, lines: make(chan map[string]any, 100)}
	p.cmd = exec.Command(os.Args[0], "-address", "127.0.0.1:0", "-redis", redis)
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			var line map[string]any
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				t.Errorf("logged: %s", s.Bytes())
				continue
			}
			p.lines <- line
		}
	}()
	p.url = fmt.Sprint("http://", p.line("http(s) server started")["address"])
	return p
}

// kill ends the process at once.
func (p *program) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// line waits for a line of the log.
func (p *program) line(msg string) map[string]any {
	p.t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("the program ended before it logged %q", msg)
			}
			if line["msg"] == msg {
				return line
			}
		case <-timeout:
			p.t.Fatalf("the program does not log %q", msg)
		}
	}
}

// visit returns the page, and the handles on the lines that the visit was logged with.
func (p *program) visit(cookie *string) (page string, logrus, slog any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", p.url, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Cookie", *cookie)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if set := res.Header.Get("Set-Cookie"); set != "" {
		*cookie, _, _ = strings.Cut(set, ";")
	}
	return string(body), p.line("visit")["session"], p.line("request")["session"]
}

// TestCounterOutlivesTheProgram: the count goes on after a kill of the process. Each log line about
// a known visitor has the handle of the session.
func TestCounterOutlivesTheProgram(t *testing.T) {
	redis := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	p := start(t, redis)
	cookie := ""
	page, _, handle := p.visit(&cookie)
	if page != "Hello World #0\n" || handle == nil || cookie == "" {
		t.Fatalf("the first visit: %q, handle %v, cookie %q", page, handle, cookie)
	}
	for i, want := range []string{"Hello World #1\n", "Hello World #2\n", "Hello World #3\n"} {
		if i == 1 {
			p.kill()
			p = start(t, redis)
		}
		page, logrus, slog := p.visit(&cookie)
		if page != want || logrus != handle || slog != handle {
			t.Errorf("%q, want %q; handles %v by logrus and %v by slog, want %v", page, want, logrus, slog, handle)
		}
	}
}
