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

const schemes = "redis://, rediss://, redis+unix://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://"

// parseURL reads one of
//
//	redis://[user:password@]host[:6379][/db]            rediss:// with TLS
//	redis+unix://[user:password@]/path/to/socket[?db=0]
//	redis+sentinel://[user:password@]host[:26379],host…/name[?db=0]
//	redis+cluster://[user:password@]host[:6379],host…
//
// and rediss+sentinel or rediss+cluster with TLS. The parameters sentinel_user and
// sentinel_password are for the sentinels. The parameters password_file and sentinel_password_file
// name files that have the password. User and password are percent-encoded.
//
// Its errors quote nothing of the URL: a mistyped URL may hold a password anywhere.
func parseURL(text string, o *Options) (opt rueidis.ClientOption, t topology, err error) {
	opt = clientOption(o)
	fail := func(err error) (rueidis.ClientOption, topology, error) {
		return opt, t, fmt.Errorf("redisstore: URL: %w", err)
	}
	u, err := splitURL(text)
	if err != nil {
		return fail(err)
	}
	opt.Username, opt.Password = u.user, u.password
	if u.passwordFile != "" {
		opt.AuthCredentialsFn = filedCredentials(u.user, u.passwordFile)
	}
	if strings.HasPrefix(u.scheme, "rediss") {
		opt.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if o.TLS != nil {
			opt.TLSConfig = o.TLS.Clone()
		}
	} else if o.TLS != nil {
		return fail(errors.New("Options.TLS is set, but the scheme is one without TLS"))
	}
	port := "6379"
	switch u.scheme {
	case "redis", "rediss":
		err = u.toStandalone(&opt)
	case "redis+unix":
		err = u.toSocket(&opt)
	case "redis+sentinel", "rediss+sentinel":
		t, port = sentinel, "26379"
		err = u.toSentinels(&opt)
	case "redis+cluster", "rediss+cluster":
		t = cluster
		err = u.toCluster(&opt)
	default:
		err = errors.New("the scheme is not one of " + schemes)
	}
	if err == nil && len(u.query) > 0 {
		err = errors.New(`unknown parameter after "?": use db and password_file, ` +
			`or for Sentinel sentinel_user, sentinel_password and sentinel_password_file`)
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
	return opt, t, complete(&opt, o, u.sentinelPasswordFile)
}

// urlParts are the parts of a URL.
type urlParts struct {
	scheme, user, password string
	rest                   string // the hosts and the path
	db                     string
	passwordFile           string // of the user
	sentinelPasswordFile   string
	query                  url.Values // parameters that are not used yet
}

func splitURL(text string) (u urlParts, err error) {
	var ok bool
	if u.scheme, u.rest, ok = strings.Cut(text, "://"); !ok {
		return u, errors.New("it does not begin with one of " + schemes)
	}
	rest, query, _ := strings.Cut(u.rest, "?")
	if strings.Contains(query, "@") { // probably a password that contains "?"
		return u, errors.New(`there is an @ after "?": write %40 for @, and in a user or password %3F for ?`)
	}
	if u.query, err = url.ParseQuery(query); err != nil {
		return u, errors.New(`the text after "?" is not name=value&…`)
	}
	u.db = u.take("db")
	u.passwordFile = u.take("password_file")
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		if u.user, err = url.PathUnescape(user); err == nil {
			u.password, err = url.PathUnescape(password)
		}
		if err != nil {
			return u, errors.New("user or password is not percent-encoded: write %25 for %")
		}
		if u.user != "" && u.password == "" && u.passwordFile == "" {
			return u, errors.New("a user without a password: write user:password@, or :password@ for the default user, " +
				"or use password_file")
		}
		rest = rest[at+1:]
	}
	if u.password != "" && u.passwordFile != "" {
		return u, errors.New("there are both a password and password_file: use one")
	}
	u.rest = rest
	return u, nil
}

// take removes a parameter and returns its value.
func (u *urlParts) take(name string) string {
	value := u.query.Get(name)
	u.query.Del(name)
	return value
}

// cutPath takes the path as the database.
func (u *urlParts) cutPath() {
	var path string
	if u.rest, path, _ = strings.Cut(u.rest, "/"); path != "" {
		u.db = path
	}
}

func (u *urlParts) toStandalone(opt *rueidis.ClientOption) error {
	opt.ForceSingleClient = true
	u.cutPath()
	if strings.Contains(u.rest, ",") {
		return errors.New("several hosts need redis+sentinel:// or redis+cluster://")
	}
	return nil
}

func (u *urlParts) toSocket(opt *rueidis.ClientOption) error {
	opt.ForceSingleClient = true
	opt.InitAddress = []string{u.rest}
	opt.DialCtxFn = dialUnix
	if !strings.HasPrefix(u.rest, "/") {
		return errors.New("redis+unix:// needs the socket's absolute path: redis+unix:///run/redis.sock")
	}
	return nil
}

func (u *urlParts) toSentinels(opt *rueidis.ClientOption) error {
	var name string
	if u.rest, name, _ = strings.Cut(u.rest, "/"); name == "" {
		return fmt.Errorf("%s:// needs the name of the master after the sentinels: %[1]s://host,host/mymaster", u.scheme)
	}
	opt.Sentinel = rueidis.SentinelOption{
		MasterSet: name,
		Username:  u.take("sentinel_user"), Password: u.take("sentinel_password"),
		// Off by default: one missed message would keep the client on a deposed primary.
		TopologyRefreshInterval: time.Second,
	}
	if u.sentinelPasswordFile = u.take("sentinel_password_file"); u.sentinelPasswordFile != "" && opt.Sentinel.Password != "" {
		return errors.New("there are both sentinel_password and sentinel_password_file: use one")
	}
	return nil
}

func (u *urlParts) toCluster(opt *rueidis.ClientOption) error {
	opt.ClusterOption.ShardsRefreshInterval = 2 * time.Second // off by default
	opt.ShuffleInit = true
	u.cutPath()
	if u.db != "" && u.db != "0" {
		return errors.New("a Cluster has database 0 only")
	}
	return nil
}

// addresses reads host[:port],host… Its errors quote nothing: text without an "@" after it may be a
// password.
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
			return nil, errors.New("a port is not a number from 1 to 65535 " +
				"(write user and password before an @: user:password@host)")
		}
		addrs = append(addrs, net.JoinHostPort(bare, p))
	}
	return addrs, nil
}
