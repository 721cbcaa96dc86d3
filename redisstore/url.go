package redisstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// topology is how the servers are arranged.
type topology uint8

const (
	standalone topology = iota
	sentinel
	cluster
)

const schemes = "redis://, rediss://, redis+unix://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://"

// parseURL reads
//
//	redis://[user:password@]host[:6379][/db]            rediss:// with TLS
//	redis+unix://[user:password@]/path/to/socket[?db=0]
//	redis+sentinel://[user:password@]host[:26379],host…/name[?db=0&sentinel_user=…&sentinel_password=…]
//	redis+cluster://[user:password@]host[:6379],host…
//
// and rediss+sentinel, rediss+cluster with TLS. User and password are percent-encoded.
func parseURL(text string, o *Options) (rueidis.ClientOption, topology, error) {
	opt := clientOption(o)
	fail := func(format string, args ...any) (rueidis.ClientOption, topology, error) {
		return opt, 0, fmt.Errorf("redisstore: URL: "+format, args...) // never the URL itself: it may hold a password
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return fail("it does not begin with one of %s", schemes)
	}
	rest, query, _ := strings.Cut(rest, "?")
	if strings.ContainsAny(query, "@") { // of a password with a "?" in it
		return fail("after \"?\" an @ is written %%40; and in a user or password, ? is %%3F")
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return fail("what follows \"?\" is not name=value&…")
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		if opt.Username, err = url.PathUnescape(user); err == nil {
			opt.Password, err = url.PathUnescape(password)
		}
		if err != nil {
			return fail("user or password is not percent-encoded: write %%25 for %%")
		}
		if opt.Username != "" && opt.Password == "" {
			return fail("a user without a password: write user:password@, or :password@ for the default user")
		}
		rest = rest[at+1:]
	}
	if strings.HasPrefix(scheme, "rediss") {
		opt.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if o.TLS != nil {
			opt.TLSConfig = o.TLS.Clone()
		}
	} else if o.TLS != nil {
		return fail("Options.TLS is set, and the scheme is one without TLS: it would not be used")
	}
	db := q.Get("db")
	q.Del("db")
	var kind topology
	port := "6379"
	switch scheme {
	case "redis", "rediss":
		var path string
		rest, path, _ = strings.Cut(rest, "/")
		if path != "" {
			db = path
		}
		opt.ForceSingleClient = true
		if strings.Contains(rest, ",") {
			return fail("several hosts need redis+sentinel:// or redis+cluster://")
		}
	case "redis+unix":
		opt.ForceSingleClient = true
		if !strings.HasPrefix(rest, "/") {
			return fail("redis+unix:// needs the socket's absolute path: redis+unix:///run/redis.sock")
		}
		opt.InitAddress = []string{rest}
		opt.DialCtxFn = dialUnix
	case "redis+sentinel", "rediss+sentinel":
		kind, port = sentinel, "26379"
		var name string
		if rest, name, _ = strings.Cut(rest, "/"); name == "" {
			return fail("%s:// needs the name of the master after the sentinels: %s://host,host/mymaster", scheme, scheme)
		}
		opt.Sentinel = rueidis.SentinelOption{
			MasterSet: name, Dialer: opt.Dialer, TLSConfig: opt.TLSConfig,
			Username: q.Get("sentinel_user"), Password: q.Get("sentinel_password"),
			TopologyRefreshInterval: time.Second, // off by default: one missed message would bind the client to a deposed primary
		}
		q.Del("sentinel_user")
		q.Del("sentinel_password")
	case "redis+cluster", "rediss+cluster":
		kind = cluster
		opt.ClusterOption.ShardsRefreshInterval = 2 * time.Second // off by default
		opt.ShuffleInit = true
		var path string
		if rest, path, _ = strings.Cut(rest, "/"); path != "" {
			db = path
		}
		if db != "" && db != "0" {
			return fail("a Cluster has database 0 only")
		}
	default:
		return fail("the scheme is none of %s", schemes)
	}
	if len(q) > 0 {
		return fail("an unknown parameter after \"?\": there are db, and for Sentinel sentinel_user and sentinel_password")
	}
	if db != "" {
		if opt.SelectDB, err = strconv.Atoi(db); err != nil || opt.SelectDB < 0 {
			return fail("the database is not a number")
		}
	}
	if opt.InitAddress == nil {
		if opt.InitAddress, err = addresses(rest, port); err != nil {
			return fail("%w", err)
		}
	}
	return opt, kind, nil
}

// addresses reads host[:port],host… Its errors quote nothing: what has no "@" behind it may be a password.
func addresses(list, port string) (addrs []string, err error) {
	for _, host := range strings.Split(list, ",") {
		p := port
		bare := host
		if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
			bare = strings.TrimSuffix(inner, "]")
		} else if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			if bare, p, err = net.SplitHostPort(host); err != nil {
				return nil, errors.New("a host is not name:port, 192.0.2.1:port or [2001:db8::1]:port")
			}
		}
		if bare == "" {
			return nil, errors.New("a host is missing")
		}
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errors.New("a port is not a number from 1 to 65535 (user and password stand before an @: user:password@host)")
		}
		addrs = append(addrs, net.JoinHostPort(bare, p))
	}
	return addrs, nil
}
