package redisstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/redis/rueidis"
)

// mayChange are the fields of rueidis.ClientOption that Options.Client may change. The store's
// promises rest on others: on the order of replies and invalidations, on no retries by the client,
// on timeouts, and on reading from primaries.
var mayChange = []string{"TLSConfig", "DialCtxFn", "AuthCredentialsFn", "Dialer", "Username", "Password", "ClientName"}

// customize applies Options.Client. It refuses changes that would break a promise.
func customize(opt *rueidis.ClientOption, change func(*rueidis.ClientOption)) error {
	before := *opt
	before.InitAddress = slices.Clone(opt.InitAddress)
	change(opt)
	was, is := reflect.ValueOf(before), reflect.ValueOf(*opt)
	for i := range was.NumField() {
		name := was.Type().Field(i).Name
		// DeepEqual takes two functions for different unless both are nil, as all others here are.
		if !slices.Contains(mayChange, name) && !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			return fmt.Errorf("redisstore: Options.Client changes %s, on which the store relies: it may change only %s",
				name, strings.Join(mayChange, ", "))
		}
	}
	switch {
	case opt.DialCtxFn == nil:
		return fmt.Errorf("redisstore: Options.Client removes DialCtxFn: replace it or leave it")
	case (opt.TLSConfig != nil) != (before.TLSConfig != nil):
		return fmt.Errorf("redisstore: Options.Client turns TLS on or off: the scheme of the URL says whether to use TLS")
	}
	// Without the limit a dial may hang, and without KeepAlive the client sends no pings.
	if opt.Dialer.Timeout <= 0 {
		opt.Dialer.Timeout = before.Dialer.Timeout
	}
	if opt.Dialer.KeepAlive <= 0 {
		opt.Dialer.KeepAlive = before.Dialer.KeepAlive
	}
	dial, limit := opt.DialCtxFn, opt.Dialer.Timeout
	opt.DialCtxFn = func(ctx context.Context, to string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return dial(ctx, to, d, config)
	}
	return nil
}
