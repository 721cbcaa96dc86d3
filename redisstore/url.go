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
//
// Its errors quote nothing of the URL: it may hold a password anywhere, written wrong.
func parseURL(text string, o *Options) (opt rueidis.ClientOption, kind topology, err error) {
	opt = clientOption(o)
	fail := func(err error) (rueidis.ClientOption, topology, error) {
		return opt, kind, fmt.Errorf("redisstore: URL: %w", err)
	}
	u, err := splitURL(text)
	if err != nil {
		return fail(err)
	}
	opt.Username, opt.Password = u.user, u.password
	if strings.HasPrefix(u.scheme, "rediss") {
		opt.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if o.TLS != nil {
			opt.TLSConfig = o.TLS.Clone()
		}
	} else if o.TLS != nil {
		return fail(errors.New("Options.TLS is set, and the scheme is one without TLS: it would not be used"))
	}
	port := "6379"
	switch u.scheme {
	case "redis", "rediss":
		err = u.toOne(&opt)
	case "redis+unix":
		err = u.toSocket(&opt)
	case "redis+sentinel", "rediss+sentinel":
		kind, port = sentinel, "26379"
		err = u.toSentinels(&opt)
	case "redis+cluster", "rediss+cluster":
		kind = cluster
		err = u.toCluster(&opt)
	default:
		err = errors.New("the scheme is none of " + schemes)
	}
	if err == nil && len(u.query) > 0 {
		err = errors.New(`an unknown parameter after "?": there are db, and for Sentinel sentinel_user and sentinel_password`)
	}
	if err == nil && u.db != "" {
		if opt.SelectDB, err = strconv.Atoi(u.db); err != nil || opt.SelectDB < 0 {
			err = errors.New("the database is not a number")
		}
	}
	if err == nil && opt.InitAddress == nil {
		opt.InitAddress, err = addresses(u.rest, port)
	}
	if err != nil {
		return fail(err)
	}
	return opt, kind, nil
}

// parts are a URL's.
type parts struct {
	scheme, user, password string
	rest                   string // hosts, and what follows them
	db                     string
	query                  url.Values // what is not understood yet
}

func splitURL(text string) (u parts, err error) {
	var ok bool
	if u.scheme, u.rest, ok = strings.Cut(text, "://"); !ok {
		return u, errors.New("it does not begin with one of " + schemes)
	}
	rest, query, _ := strings.Cut(u.rest, "?")
	if strings.Contains(query, "@") { // of a password with a "?" in it
		return u, errors.New(`after "?" an @ is written %40; and in a user or password, ? is %3F`)
	}
	if u.query, err = url.ParseQuery(query); err != nil {
		return u, errors.New(`what follows "?" is not name=value&…`)
	}
	u.db = u.query.Get("db")
	u.query.Del("db")
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		if u.user, err = url.PathUnescape(user); err == nil {
			u.password, err = url.PathUnescape(password)
		}
		if err != nil {
			return u, errors.New("user or password is not percent-encoded: write %25 for %")
		}
		if u.user != "" && u.password == "" {
			return u, errors.New("a user without a password: write user:password@, or :password@ for the default user")
		}
		rest = rest[at+1:]
	}
	u.rest = rest
	return u, nil
}

// cutPath takes what follows the hosts as the database.
func (u *parts) cutPath() {
	var path string
	if u.rest, path, _ = strings.Cut(u.rest, "/"); path != "" {
		u.db = path
	}
}

func (u *parts) toOne(opt *rueidis.ClientOption) error {
	opt.ForceSingleClient = true
	u.cutPath()
	if strings.Contains(u.rest, ",") {
		return errors.New("several hosts need redis+sentinel:// or redis+cluster://")
	}
	return nil
}

func (u *parts) toSocket(opt *rueidis.ClientOption) error {
	opt.ForceSingleClient = true
	opt.InitAddress = []string{u.rest}
	opt.DialCtxFn = dialUnix
	if !strings.HasPrefix(u.rest, "/") {
		return errors.New("redis+unix:// needs the socket's absolute path: redis+unix:///run/redis.sock")
	}
	return nil
}

func (u *parts) toSentinels(opt *rueidis.ClientOption) error {
	var name string
	if u.rest, name, _ = strings.Cut(u.rest, "/"); name == "" {
		return fmt.Errorf("%s:// needs the name of the master after the sentinels: %[1]s://host,host/mymaster", u.scheme)
	}
	opt.Sentinel = rueidis.SentinelOption{
		MasterSet: name, Dialer: opt.Dialer, TLSConfig: opt.TLSConfig,
		Username: u.query.Get("sentinel_user"), Password: u.query.Get("sentinel_password"),
		TopologyRefreshInterval: time.Second, // off by default: one missed message would bind the client to a deposed primary
	}
	u.query.Del("sentinel_user")
	u.query.Del("sentinel_password")
	return nil
}

func (u *parts) toCluster(opt *rueidis.ClientOption) error {
	opt.ClusterOption.ShardsRefreshInterval = 2 * time.Second // off by default
	opt.ShuffleInit = true
	u.cutPath()
	if u.db != "" && u.db != "0" {
		return errors.New("a Cluster has database 0 only")
	}
	return nil
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
