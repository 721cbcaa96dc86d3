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
	"github.com/coatcheck-go/session/bench/internal/report"
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
	args := strings.Fields("-json -rounds 1 -requests 200 -warmup 50ms -connections 8 -sessions 16 -memory-sessions 500 -script-calls 200")
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
		if slices.Contains(measure.Cases(), result["case"].(string)) {
			checkResult(t, result)
		} else {
			checkFigures(t, result)
		}
		seen[result["system"].(string)+" "+result["case"].(string)] = true
	}
	for _, want := range expectedLines() {
		if !seen[want] {
			t.Errorf("no result for %s", want)
		}
	}
	for name, want := range map[string]string{markdown: "**Targets, Redis ", svg: "</svg>"} {
		if text, err := os.ReadFile(name); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, want it to contain %q", filepath.Base(name), err, want)
		}
	}
	if t.Failed() {
		t.Log(stdout.String())
	}
}

// expectedLines returns a system and a case for each line of the JSON output that must be there.
func expectedLines() []string {
	lines := []string{
		report.OneJSON + " memory", app.Coatcheck + " memory", report.HIncrBy + " script", report.ApplyShort + " script",
		app.Bare + " in-process", app.Coatcheck + " in-process", app.JWTHMAC + " in-process", app.JWTEdDSA + " in-process",
	}
	for _, system := range app.Systems() {
		for _, kind := range measure.Cases() {
			if system.Measures(kind) {
				lines = append(lines, system.Name+" "+kind)
			}
		}
	}
	return lines
}

// checkFigures checks that each figure of a line about memory, scripts or reads in the process is
// positive.
func checkFigures(t *testing.T, result map[string]any) {
	t.Helper()
	for key, value := range result {
		figures, ok := value.([]any)
		if !ok {
			figures = []any{value}
		}
		for _, figure := range figures {
			if f, ok := figure.(float64); ok && f <= 0 {
				t.Errorf("%v, %v: %s is %v, want more than 0", result["system"], result["case"], key, value)
			}
		}
	}
}

// checkResult checks one line of the JSON output. Other programs read these keys.
func checkResult(t *testing.T, result map[string]any) {
	t.Helper()
	name := result["system"].(string) + ", " + result["case"].(string)
	positive := []string{"server_cpu_us", "requests_per_second", "p50_us", "p99_us", "request_bytes", "response_bytes"}
	found, err := app.Find([]string{result["system"].(string)})
	if err != nil {
		t.Fatal(err)
	}
	tests := found[0].Tests
	if tests.Updates {
		positive = append(positive, "updates")
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
	_, isNumber := result["lost_updates"].(float64)
	if isNumber != tests.Updates || isBool != tests.SignOut {
		t.Errorf("%s: lost updates %v, back after sign-out %v, want them only if they are tested",
			name, result["lost_updates"], result["back_after_sign_out"])
	}
	if result["system"] == app.Coatcheck && (result["lost_updates"] != 0.0 || back) {
		t.Errorf("%s: lost %v updates, back after sign-out: %v", name, result["lost_updates"], back)
	}
	if found[0].Role == app.Token && !back {
		t.Errorf("%s: a sign-out revoked a token, which it cannot", name)
	}
}

// TestNoRoundBeginsAfterTheBound runs with a bound that the first round exceeds.
func TestNoRoundBeginsAfterTheBound(t *testing.T) {
	var stdout, stderr bytes.Buffer
	args := "-json -parts speed -systems bare -cases read -rounds 5 -within 1ms -requests 50 -warmup 1ms -connections 2"
	if err := run(t.Context(), strings.Fields(args), &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var result map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		t.Fatalf("%s: %v", stdout.Bytes(), err)
	}
	if result["rounds"] != 1.0 {
		t.Errorf("%v rounds, want 1", result["rounds"])
	}
}

// TestSystemsSendTheSameResponse checks that all systems respond to a read with the same header and
// body, so that none gains by sending less. Cookies may differ.
func TestSystemsSendTheSameResponse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	redis, err := redisd.Start(ctx, redisd.DefaultBinary)
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
		redis, err := redisd.Start(ctx, redisd.DefaultBinary)
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
	cookies, err := client.Cookies(load.Request("POST", app.FillPath(app.Long, 0), ""), 1)
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
