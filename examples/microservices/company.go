package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"text/template"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
)

// company is all services, running.
type company struct {
	address   string // of nginx: https://localhost:port
	redis     string // URL
	folder    string // for files of this run
	log       io.Writer
	running   []*process
	closers   []func() error
	key, user [32]byte
}

// process is a program that was started.
type process struct {
	*exec.Cmd
	ended chan struct{} // closed when it has ended
}

// startTimeout is how long a service may take until it is ready. The first start installs what the
// services need.
const startTimeout = 15 * time.Minute

// startCompany starts Redis, all services and nginx, each on a free port, and waits until all are
// ready. The folder of the example is the working directory. What programs print goes to log.
func startCompany(ctx context.Context, log io.Writer) (c *company, err error) {
	c = &company{log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	_, _ = rand.Read(c.key[:])
	_, _ = rand.Read(c.user[:])
	if c.folder, err = os.MkdirTemp("", "company-"); err != nil {
		return c, err
	}
	ports, err := freePorts(ctx, len(services)+3)
	if err != nil {
		return c, err
	}
	redis, front, own := ports[0], ports[1], ports[2]
	c.redis = "redis://127.0.0.1:" + redis
	if err := c.run(command("redis-server", "--port", redis, "--bind", "127.0.0.1", "--dir", c.folder,
		"--save", "", "--appendonly", "no")); err != nil {
		return c, err
	}
	if err := c.wait(ctx, 0, func() error { return dial(ctx, redis) }); err != nil {
		return c, err
	}
	if err := c.serveSignIn(ctx, own); err != nil {
		return c, err
	}
	for i, s := range services {
		cmd := command("./run")
		cmd.Dir = s.folder
		cmd.Env = append(os.Environ(), "PORT="+ports[3+i], "REDIS_URL="+c.redis,
			"SESSION_KEY="+hex.EncodeToString(c.key[:]), "USER_KEY="+hex.EncodeToString(c.user[:]))
		if err := c.run(cmd); err != nil {
			return c, err
		}
	}
	for i, s := range services {
		url := "http://127.0.0.1:" + ports[3+i] + s.Path() + "health"
		if err := c.wait(ctx, 1+i, func() error { return get(ctx, url) }); err != nil {
			return c, err
		}
	}
	if err := c.startNginx(front, own, ports[3:]); err != nil {
		return c, err
	}
	c.address = "https://localhost:" + front
	return c, c.wait(ctx, len(c.running)-1, func() error { return dial(ctx, front) })
}

// serveSignIn serves the Go service in this process.
func (c *company) serveSignIn(ctx context.Context, port string) error {
	store, err := redisstore.Open(ctx, c.redis, redisstore.Options{})
	if err != nil {
		return err
	}
	c.closers = append(c.closers, store.Close)
	sessions, err := session.New(store, session.Config{
		Keys: [][]byte{c.key[:]}, UserKey: c.user[:],
		KeepFields: []string{string(cart), string(theme)},
	})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: newHandler(sessions), ReadHeaderTimeout: 10 * time.Second}
	c.closers = append(c.closers, server.Close)
	go func() { _ = server.Serve(listener) }()
	return nil
}

// startNginx starts nginx in front of the services. ports are those of the services.
func (c *company) startNginx(front, own string, ports []string) error {
	if err := writeCertificate(c.folder); err != nil {
		return err
	}
	conf, err := template.ParseFiles("conf/nginx.conf")
	if err != nil {
		return err
	}
	style, err := filepath.Abs("conf/style.css")
	if err != nil {
		return err
	}
	type location struct{ Path, Port string }
	var locations []location
	for i, s := range services {
		locations = append(locations, location{s.Path(), ports[i]})
	}
	path := filepath.Join(c.folder, "nginx.conf")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = conf.Execute(f, map[string]any{
		"Folder": c.folder, "Port": front, "SignIn": own, "Style": style, "Services": locations,
	})
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return c.run(command("nginx", "-p", c.folder, "-c", path))
}

// command is a program of the company. Only stop ends it, with all its children.
func command(name string, args ...string) *exec.Cmd {
	return exec.CommandContext(context.Background(), name, args...) //nolint:gosec // fixed names
}

// run starts a program, in a process group of its own, so that stop also ends its children.
func (c *company) run(cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = c.log, c.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cmd, err)
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState has the outcome
		close(p.ended)
	}()
	c.running = append(c.running, p)
	return nil
}

// stop ends all programs, the last one first, and removes the files of this run.
func (c *company) stop() error {
	var errs []error
	for len(c.running) > 0 {
		p := c.running[len(c.running)-1]
		c.running = c.running[:len(c.running)-1]
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGTERM)
		timer := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL) })
		<-p.ended
		timer.Stop()
	}
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	if c.folder != "" {
		errs = append(errs, os.RemoveAll(c.folder))
	}
	return errors.Join(errs...)
}

// freePorts returns ports of 127.0.0.1 that nobody uses. They are below the range from which
// systems take ports for outgoing connections: a service may take minutes until it listens.
func freePorts(ctx context.Context, n int) ([]string, error) {
	var ports []string
	for range 1000 {
		port := strconv.Itoa(16000 + mathrand.IntN(16000)) //nolint:gosec // no secret
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }() // only after all: no port comes twice
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("no free ports on 127.0.0.1")
}

// wait repeats ready until it succeeds. It gives up when the program has ended.
func (c *company) wait(ctx context.Context, running int, ready func() error) error {
	p := c.running[running]
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s in %q ended: %v", p.Path, p.Dir, p.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("%s in %q is not ready: %w", p.Path, p.Dir, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func dial(ctx context.Context, port string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	return conn.Close()
}

func get(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", url, res.StatusCode)
	}
	return nil
}
