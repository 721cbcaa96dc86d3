package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
)

// postgres is a server of a test, in a folder of its own.
type postgres struct {
	dir  string
	port int
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// server is the server that tests share. Each store has its own prefix.
var server = sync.OnceValues(func() (*postgres, error) { return newPostgres() })

var lastPrefix atomic.Int64

func newPrefix() string { return fmt.Sprintf("t%d_", lastPrefix.Add(1)) }

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(runChild(role))
	}
	flag.Parse()
	explicit := false
	flag.Visit(func(f *flag.Flag) { explicit = explicit || f.Name == "test.parallel" })
	if !explicit { // most tests wait
		if err := flag.Set("test.parallel", "12"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if started.Load() {
		if p, err := server(); err == nil {
			p.close()
		}
	}
	os.Exit(code)
}

var started atomic.Bool

// shared returns the shared server.
func shared(t testing.TB) *postgres {
	t.Helper()
	started.Store(true)
	p, err := server()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// startPostgres starts a server for one test, which stops it.
func startPostgres(t testing.TB, settings ...string) *postgres {
	t.Helper()
	p, err := newPostgres(settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			t.Logf("log of PostgreSQL:\n%s", log[max(0, len(log)-4000):])
		}
		p.close()
	})
	return p
}

// newPostgres makes a cluster and starts its server. PostgreSQL does not run as root, so root runs
// it as the user that Debian's package has created.
func newPostgres(settings ...string) (p *postgres, err error) {
	p = &postgres{}
	if p.dir, err = os.MkdirTemp("", "sqlstore"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if credential() != nil {
		if err := os.Chown(p.dir, int(credential().Uid), int(credential().Gid)); err != nil {
			return nil, err
		}
	}
	cmd, err := p.command("initdb", "--no-sync", "--auth=trust", "--username=admin", "--encoding=UTF8", "--locale=C.UTF-8", p.data())
	if err != nil {
		return nil, err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	lines := append([]string{
		"listen_addresses = '127.0.0.1'", "unix_socket_directories = '" + p.dir + "'", "max_connections = 300",
		"shared_buffers = 32MB", "logging_collector = off", "fsync = off",
	}, settings...)
	f, err := os.OpenFile(filepath.Join(p.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Join(lines, "\n") + "\n"); err != nil {
		return nil, err
	}
	for range 20 {
		p.port = 10000 + rand.IntN(6000)
		if err = p.start(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	return p, err
}

// errPortTaken says that another program listens on the port. The ports are below the range from
// which systems take ports for outgoing connections. So the port of a killed server stays free.
var errPortTaken = errors.New("another program listens on the port")

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

// credential is the user that runs the server; nil: the user of this process.
var credential = sync.OnceValue(func() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
})

// command returns a command with a program of PostgreSQL, which Debian does not put on PATH.
func (p *postgres) command(program string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
		if slices.Sort(found); len(found) == 0 {
			return nil, fmt.Errorf("no %s: install PostgreSQL (Debian: apt-get install postgresql)", program)
		}
		path = found[len(found)-1]
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = tied() // the process group includes the server's children
	return cmd, nil
}

// start starts the server and waits until it answers. After a crash it waits until the last process
// of the old server has ended: until then the new one does not start.
func (p *postgres) start() error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := p.tryStart(deadline)
		if !errors.Is(err, errOldServer) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// errOldServer says that processes of a killed server still run.
var errOldServer = errors.New("processes of the old server still run")

func (p *postgres) tryStart(deadline time.Time) error {
	cmd, err := p.command("postgres", "-D", p.data(), "-p", strconv.Itoa(p.port))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	p.cmd, p.done = cmd, make(chan struct{})
	begun := make(chan error)
	go func() { // Pdeathsig counts from the thread that starts the server
		runtime.LockOSThread()
		err := cmd.Start()
		begun <- err
		if err == nil {
			cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-begun; err != nil {
		p.cmd = nil
		return err
	}
	for ; ; time.Sleep(20 * time.Millisecond) {
		db, err := sql.Open("pgx", p.url())
		if err == nil {
			err = db.Ping()
			db.Close()
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			p.cmd = nil
			text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			text = bytes.TrimSpace(text[begin:])
			for said, err := range map[string]error{"Address already in use": errPortTaken, "is still in use": errOldServer} {
				if bytes.Contains(text, []byte(said)) {
					return fmt.Errorf("%w:\n%s", err, text)
				}
			}
			return fmt.Errorf("PostgreSQL did not start:\n%s", text)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		}
	}
}

// kill ends the server as a crash does.
func (p *postgres) kill() {
	if p.cmd != nil {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
		p.cmd = nil
	}
}

func (p *postgres) close() {
	p.kill()
	os.RemoveAll(p.dir)
}

// url returns the URL of the database, with parameters.
func (p *postgres) url(parameters ...string) string {
	return p.urlAt("127.0.0.1", p.port, parameters...)
}

// socketURL is url through a socket, which is faster.
func (p *postgres) socketURL(parameters ...string) string {
	return fmt.Sprintf("postgres://admin@/postgres?host=%s&port=%d&%s", url.QueryEscape(p.dir), p.port, strings.Join(parameters, "&"))
}

func (p *postgres) urlAt(host string, port int, parameters ...string) string {
	return fmt.Sprintf("postgres://admin@%s:%d/postgres?sslmode=disable&%s", host, port, strings.Join(parameters, "&"))
}

// urlAs is url for a role.
func (p *postgres) urlAs(role, password string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", url.UserPassword(role, password), p.port)
}

// do runs SQL as the administrator.
func (p *postgres) do(t testing.TB, text string, args ...any) {
	t.Helper()
	db, err := sql.Open("pgx", p.url())
	must(t, err)
	defer db.Close()
	_, err = db.ExecContext(context.Background(), text, args...)
	must(t, err)
}
