package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// Config says how sessions behave. The zero Config is secure. [New] checks it and fills in what is zero; nothing changes after.
type Config struct {
	// Policy is called by New, before the defaults: it fills in what is zero, and returns an error that names the field for what it forbids.
	// Package policy has presets; one of your own may call several, the strictest first. A bool that a policy turns on is on: false is zero.
	// Default: none.
	Policy func(*Config) error

	IdleTimeout time.Duration // a session ends when it is not used for so long; default 2 h, or Lifetime if that is shorter
	Lifetime    time.Duration // from creation to the end, whatever happens; default 24 h

	// RotateEvery is how old a token may become: the next response that can carry a cookie brings another, in the same write as the
	// request's changes. The old one works until the new one is used and for 30 s more; who shows it later has stolen it, or was stolen from.
	// A stream that others' requests leave behind so hears [ErrEnded], and is opened again. One minute to Lifetime; default 0: never. Tokens
	// from the Authorization header never rotate: there is no way back for a new one.
	RotateEvery time.Duration

	MaxRemember time.Duration // bound of Login.Remember; default 0: not allowed
	MaxPerUser  int           // sessions of one user at the same time; default 0: no limit
	RefuseExtra bool          // at MaxPerUser refuse the sign-in; default: end the user's oldest session
	KeepFields  []string      // fields of an anonymous session that come along at sign-in; the others may have been planted

	// UserKey is 32 random bytes that name users to the store: with it, the store's keys do not tell who is signed in. It must stay the
	// same: with another one, or the first one, sessions of users from before could be neither listed nor ended with their user's. They are
	// an error, 500, until it is put back or [Manager.RevokeAll] has ended them. Default: names are hashed without a key.
	UserKey []byte

	Cookie Cookie // name, scope and lifetime of the cookie; the zero Cookie is secure

	// ClearSiteData are the directives of the Clear-Site-Data header that goes with a sign-out, which makes the browser forget what the
	// application left there: "cache", "cookies", "storage", or "*" for all. It goes with what deletes the cookie in answer to
	// [Session.SignOut], also where the store is down. Browsers ignore it on plain http, and "cookies" deletes those of the whole
	// registrable domain. Default: none. (ASVS 14.3.1)
	ClearSiteData []string

	Bearer bool // also accept "Authorization: Bearer"; see Session.BearerToken

	// Keys are 32 random bytes each. With keys, tokens are signed, and a forged one costs no round trip to the store. The first
	// signs, all are accepted: append a new key on all nodes, then put it first, and drop the old one a Lifetime later, or MaxRemember if that
	// is longer. A token of a key that is not there opens nothing. Adding the first key signs everybody out, unless UnsignedUntil lies a
	// Lifetime ahead, or MaxRemember, from when the last node signs; dropping all keys signs nobody out.
	Keys          [][]byte
	UnsignedUntil time.Time // until then tokens without a signature are accepted, too

	// Seal seals values with the first of Keys, by AES-256-GCM, and opens what any of them sealed: a dump of the store then shows no value,
	// and not who is signed in, on what device and from where. In clear stay counters, which the store adds to; names of fields and keys of
	// entries; times, methods and levels of authentication; and what was stored before, until its next write. It needs Keys and UserKey.
	// A sealed value takes a third and 44 bytes more, which count for MaxSize; a field that is a Counter anywhere must not be a Value
	// elsewhere. Turning it on or off signs nobody out, as long as Keys and UserKey stay: without the key of one of its values a session cannot be
	// read, and From returns ErrSealed, but where [Route].Down is Anonymous. It keeps secrets from who reads the store; who writes to it can
	// still put a value in clear, or an older one of the same session and field, in the place of a sealed one. Default: values are in clear.
	Seal bool

	MaxSize       int           // bytes of one session's keys and values; default 64 KiB
	CommitTimeout time.Duration // how long a commit may take, also after the client hung up; default 2 s

	// CrossOrigin guards unsafe methods that carry the cookie, and those that would get one. Default: the same origin only. Give one
	// of your own to trust other origins, or to list routes that receive cross-origin posts by design.
	CrossOrigin *http.CrossOriginProtection

	// CSRF asks for a token of [Session.CSRFToken] in each request with an unsafe method whose cookie opens a session: in the header
	// [CSRFHeader], or in a form's field [CSRFField], within the first 64 KiB of the body. A request without one, or with another
	// session's, fails with [ErrCSRF] before the handler. It stands beside CrossOrigin, which guards without tokens but trusts what
	// browsers say of a request's origin. The session of such a request is read before its [Route] is known: if the store is down, the
	// request fails. Requests with a bearer token, and [Manager.Load], do not check. Default: off; on under the presets of package
	// policy (NIST SP 800-63B-4, 5.1).
	CSRF bool
	// CSRFExempt lists routes that receive posts from other sites by design, as patterns of http.ServeMux. Let them pass CrossOrigin,
	// too, and see to it that they need no session. A sign-out that is to delete the cookie also when the store is down belongs here:
	// CrossOrigin still guards it.
	CSRFExempt []string

	// OnError answers a request that failed with err; see [Error]. It must not call Error. Default: the status of [Status] and a
	// sentence in plain text.
	OnError func(w http.ResponseWriter, r *http.Request, err error)

	// OnEvent is told what happens to sessions, once the store has acknowledged it: by the goroutine that made it happen, with the context
	// of its call, which may be done; so by several at the same time. Of Expired it is told by one of the store's, where a panic is logged. It
	// must not block. It may use the session and the Manager; what it changes in a session whose header has left is lost. Default: nobody is
	// told.
	OnEvent func(ctx context.Context, e Event)

	Logger *slog.Logger // default slog.Default(). It never gets a token
}

// maxCookieAge is what browsers cap Max-Age at (RFC 6265bis, 5.5): 400 days.
const maxCookieAge = 400 * 24 * time.Hour

// checked returns c with its policy and the defaults of its values, or an error that names the field and the rule that it breaks.
func (c Config) checked() (Config, error) {
	c.Keys, c.KeepFields = slices.Clone(c.Keys), slices.Clone(c.KeepFields)
	c.CSRFExempt, c.ClearSiteData = slices.Clone(c.CSRFExempt), slices.Clone(c.ClearSiteData)
	if c.Policy != nil {
		if err := c.Policy(&c); err != nil {
			return c, err
		}
	}
	if err := c.checkLimits(); err != nil {
		return c, err
	}
	if err := c.checkUsers(); err != nil {
		return c, err
	}
	if err := c.checkSeal(); err != nil {
		return c, err
	}
	if err := c.checkSiteData(); err != nil {
		return c, err
	}
	if c.Cookie.SameSite == 0 {
		c.Cookie.SameSite = http.SameSiteLaxMode
	}
	if c.Cookie.Path == "" {
		c.Cookie.Path = "/"
	}
	if c.Cookie.Name == "" {
		c.Cookie.Name = "__Host-session"
		if c.Cookie.Insecure {
			c.Cookie.Name = "session"
		}
	}
	if err := c.checkCookie(); err != nil {
		return c, err
	}
	if !c.UnsignedUntil.IsZero() && len(c.Keys) == 0 {
		return c, errors.New("session: Config.UnsignedUntil has no meaning without Config.Keys: tokens are then never signed")
	}
	return c, nil
}

func (c *Config) checkLimits() error {
	if c.Lifetime == 0 {
		c.Lifetime = 24 * time.Hour
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = min(2*time.Hour, c.Lifetime)
	}
	if c.CommitTimeout == 0 {
		c.CommitTimeout = 2 * time.Second
	}
	for _, limit := range []struct {
		name string
		d    time.Duration
	}{{"Lifetime", c.Lifetime}, {"IdleTimeout", c.IdleTimeout}, {"CommitTimeout", c.CommitTimeout}} { // Lifetime bounds another's default
		if limit.d < time.Millisecond {
			return fmt.Errorf("session: Config.%s is %v: the least is 1ms, and 0 is the default", limit.name, limit.d)
		}
	}
	if c.IdleTimeout > c.Lifetime {
		return fmt.Errorf("session: Config.IdleTimeout %v is longer than Config.Lifetime %v, so it would never take effect", c.IdleTimeout, c.Lifetime)
	}
	if c.Lifetime > maxLifetime {
		return fmt.Errorf("session: Config.Lifetime %v is over 10 years: a session that never ends cannot be revoked by waiting", c.Lifetime)
	}
	if c.RotateEvery != 0 && (c.RotateEvery < minRotateEvery || c.RotateEvery > c.Lifetime) {
		return fmt.Errorf("session: Config.RotateEvery is %v: it is 1m to Config.Lifetime, %v, and 0 for never", c.RotateEvery, c.Lifetime)
	}
	if c.MaxSize == 0 {
		c.MaxSize = driver.DefaultMaxSize
	}
	if c.MaxSize < 0 || c.MaxSize > maxMaxSize {
		return fmt.Errorf("session: Config.MaxSize is %d: it is 1 to %d bytes, and 0 is the default", c.MaxSize, maxMaxSize)
	}
	return nil
}

func (c *Config) checkUsers() error {
	if c.MaxRemember != 0 && (c.MaxRemember < c.Lifetime || c.MaxRemember > maxCookieAge) {
		return fmt.Errorf("session: Config.MaxRemember is %v: it is at least Config.Lifetime, %v, and at most 400 days", c.MaxRemember, c.Lifetime)
	}
	if c.MaxPerUser < 0 || c.MaxPerUser > maxPerUser {
		return fmt.Errorf("session: Config.MaxPerUser is %d: it is 1 to %d, and 0 for no limit", c.MaxPerUser, maxPerUser)
	}
	if c.RefuseExtra && c.MaxPerUser == 0 {
		return errors.New("session: Config.RefuseExtra has no meaning without Config.MaxPerUser")
	}
	if c.UserKey != nil {
		if err := ticket.CheckKey(c.UserKey); err != nil {
			return fmt.Errorf("session: Config.UserKey %w", err)
		}
	}
	for _, name := range c.KeepFields {
		if err := driver.Key(name).Check(); err != nil || strings.Contains(name, ":") {
			return fmt.Errorf("session: Config.KeepFields: %q is not a field's name: 1 to %d of a-z A-Z 0-9 . _ -", name, driver.MaxName)
		}
	}
	return nil
}

const maxPerUser = 100

const (
	maxLifetime = 10 * 365 * 24 * time.Hour
	maxMaxSize  = 16 << 20
)

// checkSeal says what sealing lacks.
func (c *Config) checkSeal() error {
	switch {
	case !c.Seal:
		return nil
	case len(c.Keys) == 0:
		return errors.New("session: Config.Seal needs Config.Keys: there is nothing to seal with")
	case len(c.UserKey) == 0:
		return errors.New("session: Config.Seal needs Config.UserKey: without it a dump of the store tells who is signed in to anybody who can guess a user's id")
	}
	return nil
}

// checkCookie refuses what browsers ignore or what is unsafe. K01–K16 are the rules of docs/security.md.
func (c *Config) checkCookie() error {
	fail := func(rule, format string, args ...any) error {
		return fmt.Errorf("session: Config.%s (%s)", fmt.Sprintf(format, args...), rule)
	}
	if !isToken(c.Cookie.Name) {
		return fail("K03, K11", "Cookie.Name %q: a cookie's name has one or more letters, digits and !#$%%&'*+-.^_`|~", c.Cookie.Name)
	}
	name := strings.ToLower(c.Cookie.Name) // browsers compare prefixes so
	secureOnly := ""
	for _, prefix := range []string{"__secure-", "__host-", "__http-", "__host-http-"} {
		if strings.HasPrefix(name, prefix) {
			secureOnly = c.Cookie.Name[:len(prefix)]
		}
	}
	switch {
	case secureOnly != "" && c.Cookie.Insecure:
		return fail("K01, K02, K04", "Cookie.Name %q: browsers ignore a cookie with the prefix %q and without Secure, which Cookie.Insecure leaves out", c.Cookie.Name, secureOnly)
	case strings.HasPrefix(name, "__host-") && c.Cookie.Domain != "":
		return fail("K02", "Cookie.Domain %q: browsers ignore a cookie with the prefix \"__Host-\" and a Domain; choose a Cookie.Name with \"__Secure-\"", c.Cookie.Domain)
	case strings.HasPrefix(name, "__host-") && c.Cookie.Path != "/":
		return fail("K02", "Cookie.Path %q: browsers ignore a cookie with the prefix \"__Host-\" unless its path is \"/\"; choose a Cookie.Name with \"__Secure-\"", c.Cookie.Path)
	case secureOnly == "" && !c.Cookie.Insecure:
		return fail("K01, K14", "Cookie.Name %q: without the prefix \"__Host-\" (or \"__Secure-\", for a domain or a path) a neighbour or plain http can plant the cookie", c.Cookie.Name)
	case c.Cookie.Path[0] != '/' || len(c.Cookie.Path) > 1024 || !isAttribute(c.Cookie.Path):
		return fail("K05, K11", "Cookie.Path %.40q: a path begins with \"/\", has no control characters and no \";\", and at most 1024 bytes", c.Cookie.Path)
	case len(c.Cookie.Domain) > 253 || c.Cookie.Domain != "" && !isDomain(c.Cookie.Domain):
		return fail("K05, K11", "Cookie.Domain %.40q is not a domain name", c.Cookie.Domain)
	case c.Cookie.SameSite == http.SameSiteDefaultMode:
		return fail("K09", "Cookie.SameSite: the default of browsers lets some cross-site posts carry the cookie; choose Lax, Strict or None")
	case c.Cookie.SameSite < http.SameSiteLaxMode || c.Cookie.SameSite > http.SameSiteNoneMode:
		return fail("K09", "Cookie.SameSite %d is none of Lax, Strict and None", c.Cookie.SameSite)
	case c.Cookie.SameSite == http.SameSiteNoneMode && c.Cookie.Insecure:
		return fail("K08", "Cookie.SameSite None: browsers ignore it without Secure, which Cookie.Insecure leaves out")
	case c.Cookie.Partitioned && c.Cookie.Insecure:
		return fail("K15", "Cookie.Partitioned: browsers ignore it without Secure, which Cookie.Insecure leaves out")
	case c.Cookie.Partitioned && c.Cookie.SameSite != http.SameSiteNoneMode:
		return fail("K15", "Cookie.Partitioned serves pages that other sites embed, where only SameSite None cookies are sent")
	case c.Cookie.Persistent && c.Lifetime > maxCookieAge:
		return fail("K07", "Lifetime %v: browsers cut a persistent cookie's Max-Age to 400 days", c.Lifetime)
	}
	deletion := Manager{cfg: c}
	if c.Cookie.Domain != "" && !strings.Contains(deletion.cookie("", 0), "; Domain=") { // net/http leaves out what is none
		return fail("K05, K11", "Cookie.Domain %.40q is not a domain name", c.Cookie.Domain)
	}
	if n := len(deletion.cookie(strings.Repeat("x", 76), c.Lifetime)); n > 4096 {
		return fail("K05", "Cookie.Name: the cookie would have %d bytes, and browsers ignore one of more than 4096", n)
	}
	return nil
}

func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func isAttribute(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == ';' {
			return false
		}
	}
	return true
}

func isDomain(s string) bool {
	for _, label := range strings.Split(strings.TrimPrefix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}
