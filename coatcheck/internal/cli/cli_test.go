package cli_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/coatcheck-go/session/coatcheck/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"coatcheck": func() { os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/*.txtar: what a person types, and what they see. They use curl.
//
// Each has a free $ADDR and its $URL to itself, and a second pair, $ADDR2 and $URL2. Besides testscript's own commands there are:
//
//	reach ADDR                  wait until something listens there
//	token FILE                  set $TOKEN to the session's token in curl's cookie jar
//	busy ADDR                   listen there until the script ends
//	redis server CONFIG...      start a server, with lines for its configuration file, and set $STORE to its URL
//	redis users RULE...         the same with access control rules
//	redis sentinel              the same with a primary, two replicas and three sentinels
//	redis cluster               the same with a Cluster
//	redis kill                  end the server, or the primary that Sentinel watches, with SIGKILL
//	redis restart               start it again
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[serversKey{}] = new(servers)
			return errors.Join(freeAddr(env, ""), freeAddr(env, "2"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"reach": reach,
			"token": token,
			"busy":  busy,
			"redis": redis,
		},
	})
}

func freeAddr(env *testscript.Env, suffix string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	env.Setenv("ADDR"+suffix, ln.Addr().String())
	env.Setenv("URL"+suffix, "http://"+ln.Addr().String())
	return ln.Close()
}

func reach(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: reach ADDR")
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", args[0])
		if err == nil {
			ts.Check(conn.Close())
			return
		}
		if time.Since(began) > 20*time.Second {
			ts.Fatalf("nothing listens on %s after 20 s: %v", args[0], err)
		}
	}
}

func token(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: token FILE")
	}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if f := strings.Fields(line); len(f) == 7 && strings.HasSuffix(f[5], "session") && f[6] != "" {
			ts.Setenv("TOKEN", f[6])
			return
		}
	}
	ts.Fatalf("no session in the cookie jar %s", args[0])
}

// busy makes another program listen on an address until the script ends.
func busy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: busy ADDR")
	}
	ln, err := net.Listen("tcp", args[0])
	ts.Check(err)
	ts.Defer(func() { ln.Close() })
}
