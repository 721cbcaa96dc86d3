package redisd

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// quiet is how long to wait for further commands before Watch stops.
const quiet = 50 * time.Millisecond

// Watch runs do, which sends the same request n times, one after the other. It returns how many
// commands the application sent to the Redis server at addr for one request, and which, such as
// "GET" or "2 PING".
//
// Commands that scripts ran do not count. The counts of the server itself cannot tell them apart. A
// command that came with fewer than half of the requests does not count either: it is a heartbeat
// of a client.
func Watch(ctx context.Context, addr string, n int, do func() error) (float64, []string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		return 0, nil, err
	}
	lines := bufio.NewReader(conn)
	if line, err := lines.ReadString('\n'); err != nil || line != "+OK\r\n" {
		return 0, nil, fmt.Errorf("MONITOR: %q: %w", line, err)
	}
	if err := do(); err != nil {
		return 0, nil, err
	}
	sent, order := map[string]int{}, []string(nil)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			return 0, nil, err
		}
		line, err := lines.ReadString('\n')
		if err != nil { // no further command arrived in time
			break
		}
		if name, ok := commandOf(line); ok {
			if sent[name]++; !slices.Contains(order, name) {
				order = append(order, name)
			}
		}
	}
	order = slices.DeleteFunc(order, func(name string) bool { return sent[name] < n/2 })
	total := 0
	for i, name := range order {
		total += sent[name]
		if each := (sent[name] + n/2) / n; each > 1 {
			order[i] = fmt.Sprintf("%d %s", each, name)
		}
	}
	return float64(total) / float64(n), order, nil
}

// commandOf returns the command in a line of MONITOR, and whether a client sent it:
//
//	+1700000000.000000 [0 127.0.0.1:40000] "HGET" "key" "field"
//	+1700000000.000000 [0 lua] "HGET" "key" "field"
func commandOf(line string) (string, bool) {
	_, rest, ok := strings.Cut(line, "[")
	if !ok {
		return "", false
	}
	from, command, ok := strings.Cut(rest, "] ")
	if !ok || strings.HasSuffix(from, "lua") {
		return "", false
	}
	name, _, _ := strings.Cut(command, " ")
	return strings.ToUpper(strings.Trim(strings.TrimSpace(name), `"`)), true
}
