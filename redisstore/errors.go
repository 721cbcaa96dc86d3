package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/coatcheck-go/session/driver"
)

// ErrClosed is the error of all operations after Close.
var ErrClosed = errors.New("redisstore: the store is closed")

// errNoReply is why a server is suspected to be down.
var errNoReply = errors.New("no reply in time")

// advice tells an operator what to do about errors of servers. The client gives these without
// their "ERR ".
var advice = []struct{ prefix, text string }{
	{"OOM", "Redis is out of memory: raise maxmemory, or let sessions live shorter"},
	{"NOPERM", "the user lacks a permission: see \"ACL\" in format/README.md"},
	{"ACL failure", "the user lacks a permission: see \"ACL\" in format/README.md"},
	{"NOAUTH", "Redis asks for a password: put user and password into the URL"},
	{"WRONGPASS", "user or password is wrong"},
	{"MISCONF", "Redis cannot write to its disk"},
	{"WRONGTYPE", "another program uses the namespace: choose another Options.Namespace"},
	{"BUSY", "a script has been running for too long on the server"},
	{"unknown command 'SENTINEL'", "this is no sentinel: redis+sentinel:// names the sentinels, usually on port 26379"},
	{"unknown command", "the store needs a command that the server does not have: it was disabled or renamed away"},
	{"This instance has cluster support disabled", "this is not a node of a Cluster: use redis:// or redis+sentinel://"},
}

// withAdvice adds to a server's error what an operator can do.
func withAdvice(err error) error {
	for _, a := range advice {
		if strings.HasPrefix(err.Error(), a.prefix) {
			return fmt.Errorf("%s (%w)", a.text, withoutArguments(err))
		}
	}
	return err
}

// withoutArguments removes the arguments that servers quote from an unknown command: they may
// contain a session's secret.
func withoutArguments(err error) error {
	if text, _, quotes := strings.Cut(err.Error(), ", with args"); quotes {
		return errors.New(text)
	}
	return err
}

// connectionError adds to the error of a first connection what an operator can do.
func connectionError(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("redisstore: no connection: the server does not answer in time: "+
			"check that it is up, and that it uses TLS if the URL's scheme says so (%w)", err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("redisstore: no connection: the server closed the connection: "+
			"if it accepts only TLS, use rediss:// or the like (%w)", err)
	}
	return fmt.Errorf("redisstore: no connection: %w", withAdvice(err))
}

// gotNoReply reports that an operation failed without a reply: the connection was lost, or the time
// was over.
func gotNoReply(err error) bool {
	return errors.Is(err, driver.ErrUnknown) || errors.Is(err, io.EOF) || errors.As(err, new(net.Error))
}

// aboutSession names the session in the error of a server that found no hash under its key.
func aboutSession(id driver.ID, err error) error {
	if err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		return err
	}
	text := strings.TrimPrefix(err.Error(), "redisstore: ")
	return fmt.Errorf("redisstore: session %s: %w: %s", id, driver.ErrFormat, text)
}
