package redisstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/redis/rueidis"
)

// credentialsFn returns the user and the password for one new connection.
type credentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error)

func fixedCredentials(user, password string) credentialsFn {
	return func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
		return rueidis.AuthCredentials{Username: user, Password: password}, nil
	}
}

const maxPasswordFile = 4096 // bytes

// filedCredentials reads the password from a file at each call, without the line break at its end.
func filedCredentials(user, path string) credentialsFn {
	return func(rueidis.AuthCredentialsContext) (c rueidis.AuthCredentials, err error) {
		f, err := os.Open(path)
		if err != nil {
			return c, fmt.Errorf("password file: %w", err)
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxPasswordFile+1))
		if err != nil {
			return c, fmt.Errorf("password file: %w", err)
		}
		text = bytes.TrimRight(text, "\r\n")
		if len(text) == 0 || len(text) > maxPasswordFile {
			return c, fmt.Errorf("password file %s: it has no password, or more than %d bytes", path, maxPasswordFile)
		}
		return rueidis.AuthCredentials{Username: user, Password: string(text)}, nil
	}
}

// maxCredentialCalls bounds the calls of one credentialsFn at a time, in case they hang.
const maxCredentialCalls = 16

// bounded makes a credentialsFn return within a limit. Its errors count as failures to connect:
// nothing was sent, and the next try may succeed.
func bounded(fn credentialsFn, limit time.Duration) credentialsFn {
	running := make(chan struct{}, maxCredentialCalls)
	fail := func(err error) (rueidis.AuthCredentials, error) {
		return rueidis.AuthCredentials{}, &net.OpError{Op: "dial", Err: fmt.Errorf("user and password: %w", err)}
	}
	type answer struct {
		credentials rueidis.AuthCredentials
		err         error
	}
	return func(at rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
		timeout := time.After(limit)
		select {
		case running <- struct{}{}:
		case <-timeout:
			return fail(errors.New("earlier calls of AuthCredentialsFn have not returned"))
		}
		done := make(chan answer, 1)
		go func() {
			defer func() { <-running }()
			c, err := fn(at)
			done <- answer{c, err}
		}()
		select {
		case a := <-done:
			if a.err != nil {
				return fail(a.err)
			}
			return a.credentials, nil
		case <-timeout:
			return fail(fmt.Errorf("AuthCredentialsFn has not returned for %v", limit))
		}
	}
}

// complete applies Options.Client, and sets what depends on it.
func complete(opt *rueidis.ClientOption, o *Options, sentinelPasswordFile string) error {
	if o.Client != nil {
		if err := customize(opt, o.Client); err != nil {
			return err
		}
	}
	limit := opt.Dialer.Timeout
	if opt.AuthCredentialsFn != nil {
		opt.AuthCredentialsFn = bounded(opt.AuthCredentialsFn, limit)
	}
	if opt.Sentinel.MasterSet == "" {
		return nil
	}
	opt.Sentinel.Dialer, opt.Sentinel.TLSConfig = opt.Dialer, opt.TLSConfig
	ofSentinels := fixedCredentials(opt.Sentinel.Username, opt.Sentinel.Password)
	switch {
	case sentinelPasswordFile != "":
		ofSentinels = bounded(filedCredentials(opt.Sentinel.Username, sentinelPasswordFile), limit)
	case opt.AuthCredentialsFn == nil:
		return nil // the client keeps the fixed ones apart itself
	}
	if opt.AuthCredentialsFn == nil {
		opt.AuthCredentialsFn = fixedCredentials(opt.Username, opt.Password)
	}
	separateSentinels(opt, ofSentinels)
	return nil
}

// separateSentinels gives the sentinels credentials of their own. The client asks one function for
// those of sentinels and of servers, and does not say which it means. So a connection to a sentinel
// has an address of its own type. The client dials sentinels with a Dialer of their own, whose
// timeout tells it from the other one.
func separateSentinels(opt *rueidis.ClientOption, ofSentinels credentialsFn) {
	opt.Sentinel.Dialer.Timeout = opt.Dialer.Timeout + time.Nanosecond
	mark, dial, ofServers := opt.Sentinel.Dialer.Timeout, opt.DialCtxFn, opt.AuthCredentialsFn
	opt.DialCtxFn = func(ctx context.Context, to string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
		conn, err := dial(ctx, to, d, config)
		if err == nil && d.Timeout == mark {
			conn = sentinelConn{conn}
		}
		return conn, err
	}
	opt.AuthCredentialsFn = func(at rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
		if _, ok := at.Address.(sentinelAddr); ok {
			return ofSentinels(at)
		}
		return ofServers(at)
	}
}

// sentinelConn is a connection to a sentinel.
type sentinelConn struct{ net.Conn }

// RemoteAddr returns a sentinelAddr.
func (c sentinelConn) RemoteAddr() net.Addr { return sentinelAddr{c.Conn.RemoteAddr()} }

type sentinelAddr struct{ net.Addr }
