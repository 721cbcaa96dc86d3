package cli_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/coatcheck-go/session/coatcheck/internal/cli"
	"github.com/coatcheck-go/session/coatcheck/internal/freeaddr"
	"github.com/coatcheck-go/session/driver"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"coatcheck": func() { os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/*.txtar. Each script has commands as a user types them, and their
// expected output. The scripts use curl.
//
// Each script has a free address $ADDR with the URL $URL, and a second pair, $ADDR2 and $URL2. It
// can use the commands of testscript, and these:
//
//	reach ADDR                  wait until a server listens on ADDR
//	await FILE TEXT             wait until FILE has TEXT; start the demo with 2>FILE
//	token FILE                  set $TOKEN to the session's token in curl's cookie jar FILE, and
//	                            $HANDLE to its handle
//	busy                        listen on a free address until the script ends, set $ADDR to it
//	redis server CONFIG...      start a server with this configuration, set $STORE to its URL
//	redis users RULE...         the same, with access control rules
//	redis sentinel              the same, with a primary, two replicas and three sentinels
//	redis cluster               the same, with a Cluster
//	redis kill                  kill the server, or the primary of Sentinel, with SIGKILL
//	redis restart               start the killed server again
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
			"await": await,
			"token": token,
			"busy":  busy,
			"redis": redis,
		},
	})
}

// freeAddr sets variables of the script to an address that no program uses.
func freeAddr(env *testscript.Env, suffix string) error {
	addr, err := freeaddr.Next()
	env.Setenv("ADDR"+suffix, addr)
	env.Setenv("URL"+suffix, "http://"+addr)
	return err
}

// reach waits until a server listens on an address.
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
		if time.Since(began) > 2*time.Minute {
			ts.Fatalf("nothing listens on %s after 2 minutes: %v", args[0], err)
		}
	}
}

// await waits until a file has a text.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE TEXT")
	}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if bytes.Contains(b, []byte(args[1])) {
			return
		}
		if time.Since(began) > 2*time.Minute {
			ts.Fatalf("%s lacks %q after 2 minutes (%v):\n%s", args[0], args[1], err, b)
		}
	}
}

// token reads the session's token from a cookie jar.
func token(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: token FILE")
	}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if f := strings.Fields(line); len(f) == 7 && strings.Contains(f[5], "session") && f[6] != "" {
			ts.Setenv("TOKEN", f[6])
			b, err := base64.RawURLEncoding.DecodeString(f[6])
			ts.Check(err)
			id := driver.ID{Bucket: binary.BigEndian.Uint16(b[1:]), Selector: driver.HashOf(b[3:19])}
			ts.Setenv("HANDLE", id.String())
			return
		}
	}
	ts.Fatalf("no session in the cookie jar %s", args[0])
}

// busy listens on a free address until the script ends, like another program.
func busy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: busy")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv("ADDR", ln.Addr().String())
	ts.Defer(func() { ln.Close() })
}
