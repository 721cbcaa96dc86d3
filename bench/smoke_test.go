package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/child"
	"github.com/coatcheck-go/session/bench/internal/load"
	"github.com/coatcheck-go/session/bench/internal/measure"
	"github.com/coatcheck-go/session/bench/internal/redisd"
)

// TestMain lets the test binary act as the server processes.
func TestMain(m *testing.M) {
	if runAsChild(os.Args[1:]) {
		return
	}
	// With -race, every process sleeps for a second when it exits, and there are dozens of them.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestBenchRunsCompletely runs the whole program with few requests. It checks that every figure is
// there, and not how large it is: the test must pass on a busy machine too.
func TestBenchRunsCompletely(t *testing.T) {
	dir := t.TempDir()
	markdown, svg := filepath.Join(dir, "bench.md"), filepath.Join(dir, "bench.svg")
	var stdout, stderr bytes.Buffer
	args := strings.Fields("-json -rounds 1 -requests 200 -warmup 50ms -connections 8 -sessions 16 -memory-sessions 500")
	err := run(t.Context(), append(args, "-md", markdown, "-svg", svg), &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	seen := map[string]bool{}
	for line := range bytes.Lines(stdout.Bytes()) {
		var result map[string]any
		if err := json.Unmarshal(line, &result); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		checkResult(t, result)
		seen[result["system"].(string)+" "+result["case"].(string)] = true
	}
	for _, system := range app.Systems() {
		for _, kind := range measure.Cases() {
			if !seen[system.Name+" "+kind] {
				t.Errorf("no result for %s, %s", system.Name, kind)
			}
		}
	}
	for name, want := range map[string]string{markdown: "**Read, 8 connections**", svg: "</svg>"} {
		if text, err := os.ReadFile(name); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, want it to contain %q", filepath.Base(name), err, want)
		}
	}
	if t.Failed() {
		t.Log(stdout.String())
	}
}

// checkResult checks one line of the JSON output. Other programs read these keys.
func checkResult(t *testing.T, result map[string]any) {
	t.Helper()
	name := result["system"].(string) + ", " + result["case"].(string)
	positive := []string{"server_cpu_us", "requests_per_second", "p50_us", "p99_us", "request_bytes", "response_bytes"}
	if result["system"] != app.Bare {
		positive = append(positive, "bytes_per_session", "updates")
	}
	for _, key := range positive {
		if figure, ok := result[key].(float64); !ok || figure <= 0 {
			t.Errorf("%s: %s is %v, want more than 0", name, key, result[key])
		}
	}
	for _, key := range []string{"redis_cpu_us", "commands", "commands_processed", "redis_bytes_in", "redis_bytes_out"} {
		if figure, ok := result[key].(float64); !ok || figure < 0 {
			t.Errorf("%s: %s is %v, want a figure", name, key, result[key])
		}
	}
	if result["requests"] != 200.0 || result["errors"] != 0.0 {
		t.Errorf("%s: %v requests, %v errors, want 200 and 0", name, result["requests"], result["errors"])
	}
	back, isBool := result["back_after_sign_out"].(bool)
	switch result["system"] {
	case app.Bare:
		if result["lost_updates"] != nil || result["back_after_sign_out"] != nil {
			t.Errorf("%s: has figures about sessions, want none, because it keeps no session", name)
		}
	case app.Coatcheck:
		if result["lost_updates"] != 0.0 || !isBool || back {
			t.Errorf("%s: lost %v updates, back after sign-out: %v", name, result["lost_updates"], back)
		}
	default:
		if _, ok := result["lost_updates"].(float64); !ok || !isBool {
			t.Errorf("%s: lost updates %v, back after sign-out %v", name, result["lost_updates"], back)
		}
	}
}

// TestSystemsSendTheSameResponse checks that all systems respond to a read with the same header and
// body, so that none gains by sending less. Cookies may differ.
func TestSystemsSendTheSameResponse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	redis, err := redisd.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Stop()
	var want []string
	for _, system := range app.Systems() {
		got := mustRead(t, system.Name, redis.Addr)
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s responds with %q, want %q", system.Name, got, want)
		}
	}
}

// TestRedisEndsWithItsParent checks that the Redis server ends with the process that started it,
// and that it leaves no files behind.
func TestRedisEndsWithItsParent(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	for name, end := range map[string]func(*child.Process){
		"stopped":  func(p *child.Process) { p.Stop() },
		"canceled": func(p *child.Process) { cancel(); p.Stop() },
	} {
		redis, err := redisd.Start(ctx)
		if err != nil {
			t.Fatal(err)
		}
		end(redis)
		if conn, err := net.Dial("tcp", redis.Addr); err == nil {
			_ = conn.Close()
			t.Errorf("%s: redis-server still accepts connections", name)
		}
		if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
			t.Errorf("%s: files left behind: %v, %v", name, left, err)
		}
		ctx, cancel = context.WithCancel(t.Context())
	}
	cancel()
}

// mustRead returns the response of a system to a read: the sorted header lines without Date and
// Set-Cookie, and the body.
func mustRead(t *testing.T, system, redis string) []string {
	t.Helper()
	server, err := app.Start(t.Context(), system, app.Options{Redis: redis, Pool: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	client, err := load.Dial(t.Context(), server.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cookies, err := client.Cookies(load.Request("POST", app.PathFill, ""), 1)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(load.Request("GET", app.PathRead, cookies[0]))
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{string(response.Body)}
	for line := range strings.Lines(response.Header()) {
		switch name, _, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "", "Date", "Set-Cookie":
		default:
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	return lines
}
