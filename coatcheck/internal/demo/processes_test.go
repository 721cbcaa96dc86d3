package demo_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/coatcheck-go/session/coatcheck/internal/cli"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestMain runs the tests. In a process of mustStartProcess it is the command coatcheck.
func TestMain(m *testing.M) {
	if os.Getenv("COATCHECK_DEMO_PROCESS") != "" {
		os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	code := m.Run()
	if err := stopChromium(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the browser:", err)
		code = 1
	}
	os.Exit(code)
}

// mustStartProcesses starts a Redis server, and two processes of the demo that use it. It returns
// the URLs of the processes.
func mustStartProcesses(t *testing.T) (urls [2]string) {
	t.Helper()
	store := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	for i := range urls {
		urls[i], _ = mustStartProcess(t, store, "127.0.0.1:0")
	}
	return urls
}

// mustStartProcess starts a process of the demo. kill ends it with SIGKILL.
func mustStartProcess(t *testing.T, store, addr string) (url string, kill func()) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "demo", "--addr", addr, "--store", store, "--insecure-http")
	cmd.Env = append(os.Environ(), "COATCHECK_DEMO_PROCESS=1")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); strings.HasPrefix(line, "http://") {
			go func() {
				for lines.Scan() { // the process must not wait for a reader
				}
			}()
			return strings.TrimSuffix(line, "/"), kill
		}
	}
	t.Fatal("the demo printed no address")
	return "", nil
}

// patience is how long a test waits for what must happen. Only a failing test waits so long.
const patience = 2 * time.Minute

// mustBecome waits until a JavaScript expression is true in each of the pages. They may reload
// meanwhile.
func mustBecome(t *testing.T, expression string, pages ...context.Context) {
	t.Helper()
	for i, page := range pages {
		for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			ok, err := chromedp.Run(page, chromedp.Evaluate[bool](expression))
			if ok {
				break
			}
			if time.Since(began) > patience {
				text := mustEvaluate[string](t, page, `location.href + (document.hidden ? ", hidden: " : ": ") + document.body.innerText.slice(0, 800)`)
				t.Fatalf("page %d: waiting for %s: %v\n%s", i, expression, err, text)
			}
		}
	}
}
