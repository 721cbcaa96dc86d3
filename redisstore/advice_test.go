package redisstore_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// adviceOn opens a store and returns the lines that it logs, without the time. ADDR0 stands for the
// address of the first node.
func adviceOn(t *testing.T, url string, nodes ...*redistest.Node) (lines []string) {
	t.Helper()
	var log logBuffer
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	o := redisstore.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: noTime}))}
	mustOpen(t, url, patient(o))
	text := log.String()
	for i, n := range nodes {
		text = strings.ReplaceAll(text, n.Addr(), fmt.Sprint("ADDR", i))
	}
	return slices.Collect(strings.Lines(text))
}

// adviceLine returns the line that a store logs about a setting.
func adviceLine(costs, server, setting, value, command string) string {
	return fmt.Sprintf("level=INFO msg=%q server=%s setting=%s value=%s command=%q\n",
		"redisstore: "+costs+": run the command on each server, then CONFIG REWRITE", server, setting, value, command)
}

const (
	memoryCosts   = "a session with a value of more than 64 bytes takes about twice the memory"
	memoryCommand = "CONFIG SET hash-max-listpack-value 1024"
	snapshotCosts = "a restart of the server may undo sign-outs since its last snapshot"
	aofCommand    = "CONFIG SET appendonly yes"
)

// advised are the settings that docs/operations.md recommends.
var advised = []string{"hash-max-listpack-value 1024", "appendonly yes", "appendfsync everysec"}

// TestOpenLogsOnceWhatSettingsCost opens stores on servers with different settings. Each costly
// setting is one line, with the command that changes it. The recommended settings are none.
func TestOpenLogsOnceWhatSettingsCost(t *testing.T) {
	memory := adviceLine(memoryCosts, "ADDR0", "hash-max-listpack-value", "64", memoryCommand)
	snapshots := adviceLine(snapshotCosts, "ADDR0", "appendonly", "no", aofCommand)
	for _, c := range []struct {
		name   string
		config []string
		want   []string
	}{
		{"recommended", advised, nil},
		{"more than recommended", append(slices.Clone(advised), "hash-max-listpack-value 4096", "appendfsync always"), nil},
		{"defaults", []string{"save 3600 1 300 100 60 10000"}, []string{snapshots, memory}},
		{"no persistence", advised[:1], []string{
			adviceLine("a restart of the server signs everybody out", "ADDR0", "appendonly", "no", aofCommand)}},
		{"appendfsync no", append(slices.Clone(advised), "appendfsync no"), []string{
			adviceLine("a crash of the machine may undo the sign-outs of the last 30 seconds", "ADDR0",
				"appendfsync", "no", "CONFIG SET appendfsync everysec")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			node := redistest.Start(t, redistest.Options{Config: c.config})
			if got := adviceOn(t, "redis://"+node.Addr(), node); !slices.Equal(got, c.want) {
				t.Errorf("Open logged %q, want %q", got, c.want)
			}
		})
	}
}

// TestClusterLogsASettingOnce opens stores on a Cluster. A setting that all nodes have is one line.
// So is one that some nodes have; it names those.
func TestClusterLogsASettingOnce(t *testing.T) {
	limitParallel(t)
	c := redistest.StartCluster(t, redistest.Options{Config: advised[1:]})
	want := []string{adviceLine(memoryCosts, "all", "hash-max-listpack-value", "64", memoryCommand)}
	if got := adviceOn(t, clusterURL(c)); !slices.Equal(got, want) {
		t.Errorf("Open logged %q, want %q", got, want)
	}
	costly := c.Nodes[:2]
	for _, n := range c.Nodes[2:] {
		_, err := n.Do("CONFIG", "SET", "hash-max-listpack-value", "1024")
		must(t, err)
	}
	addrs := []string{costly[0].Addr(), costly[1].Addr()}
	slices.Sort(addrs)
	want = []string{adviceLine(memoryCosts, strings.Join(addrs, ","), "hash-max-listpack-value", "64", memoryCommand)}
	if got := adviceOn(t, clusterURL(c)); !slices.Equal(got, want) {
		t.Errorf("with two costly nodes Open logged %q, want %q", got, want)
	}
}

// TestAdviceNeedsNoPermission opens stores as users who must not read settings, and on a server
// without the command. Open logs only what INFO says, and the server denies no command.
func TestAdviceNeedsNoPermission(t *testing.T) {
	rule, _ := mustReadACLRules(t)
	for name, o := range map[string]redistest.Options{
		"documented user": {Users: []string{rule}},
		"no CONFIG GET":   {Users: []string{"app on >" + password + " ~* &* +@all -config|get"}},
		"no such command": {Users: []string{allRule}, Config: []string{"rename-command CONFIG hidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Start(t, o)
			want := []string{adviceLine(snapshotCosts, "ADDR0", "appendonly", "no", aofCommand)}
			if got := adviceOn(t, "redis://"+credentials+node.Addr(), node); !slices.Equal(got, want) {
				t.Errorf("Open logged %q, want %q", got, want)
			}
			mustHaveNoDenial(t, node)
		})
	}
}
