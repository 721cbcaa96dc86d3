package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

const (
	maxLifetime = 10 * 365 * 24 * time.Hour
	maxMaxSize  = 16 << 20
	maxPerUser  = 100
)

// checked returns a copy of c with the policy applied and the defaults filled in. The error names
// the field and the rule that it breaks. The defaults of CrossOrigin, OnError and Logger are left
// to New.
func (c Config) checked() (Config, error) {
	c.Keys, c.KeepFields = slices.Clone(c.Keys), slices.Clone(c.KeepFields)
	c.CSRFExempt, c.ClearSiteData = slices.Clone(c.CSRFExempt), slices.Clone(c.ClearSiteData)
	c.Observers, c.UserFields = slices.Clone(c.Observers), slices.Clone(c.UserFields)
	if c.Policy != nil {
		if err := c.Policy(&c); err != nil {
			return c, err
		}
	}
	c.fillLimits()
	c.fillCookie()
	for _, check := range []func(*Config) error{
		(*Config).checkLimits, (*Config).checkUsers, (*Config).checkUserData, (*Config).checkSeal,
		(*Config).checkSiteData, (*Config).checkCookie,
	} {
		if err := check(&c); err != nil {
			return c, err
		}
	}
	if slices.Contains(c.Observers, nil) {
		return c, errors.New("session: Config.Observers contains nil")
	}
	if !c.UnsignedUntil.IsZero() && len(c.Keys) == 0 {
		return c, errors.New("session: Config.UnsignedUntil requires Config.Keys: without keys no token is signed")
	}
	return c, nil
}

func (c *Config) fillLimits() {
	if c.Lifetime == 0 {
		c.Lifetime = 24 * time.Hour
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = min(2*time.Hour, c.Lifetime)
	}
	if c.FirstUseTimeout == 0 {
		c.FirstUseTimeout = min(15*time.Minute, c.IdleTimeout)
	}
	if c.CommitTimeout == 0 {
		c.CommitTimeout = 2 * time.Second
	}
	if c.WatchTimeout == 0 {
		c.WatchTimeout = 30 * time.Second
	}
	if c.UserDataTimeout == 0 {
		c.UserDataTimeout = 90 * 24 * time.Hour
	}
	if c.MaxSize == 0 {
		c.MaxSize = driver.DefaultMaxSize
	}
}

func (c *Config) checkLimits() error {
	for _, limit := range []struct {
		name string
		d    time.Duration
	}{
		{"Lifetime", c.Lifetime}, // first, since each bounds the default of the next
		{"IdleTimeout", c.IdleTimeout},
		{"FirstUseTimeout", c.FirstUseTimeout},
		{"CommitTimeout", c.CommitTimeout},
		{"WatchTimeout", c.WatchTimeout},
		{"UserDataTimeout", c.UserDataTimeout},
	} {
		if limit.d < time.Millisecond {
			return fmt.Errorf("session: Config.%s is %v: it must be at least 1ms, or 0 for the default",
				limit.name, limit.d)
		}
	}
	switch {
	case c.IdleTimeout > c.Lifetime:
		return fmt.Errorf("session: Config.IdleTimeout is %v, longer than Config.Lifetime (%v), "+
			"so it would never take effect", c.IdleTimeout, c.Lifetime)
	case c.FirstUseTimeout > c.IdleTimeout:
		return fmt.Errorf("session: Config.FirstUseTimeout is %v, longer than Config.IdleTimeout (%v), "+
			"so it would never take effect", c.FirstUseTimeout, c.IdleTimeout)
	case c.Lifetime > maxLifetime:
		return fmt.Errorf("session: Config.Lifetime is %v: it must be at most 10 years, so that every session ends",
			c.Lifetime)
	case c.RotateEvery != 0 && (c.RotateEvery < minRotateEvery || c.RotateEvery > c.Lifetime):
		return fmt.Errorf("session: Config.RotateEvery is %v: it must be 1m to Config.Lifetime (%v), or 0 for never",
			c.RotateEvery, c.Lifetime)
	case c.MaxSize < 0 || c.MaxSize > maxMaxSize:
		return fmt.Errorf("session: Config.MaxSize is %d: it must be 1 to %d bytes, or 0 for the default",
			c.MaxSize, maxMaxSize)
	}
	return nil
}

func (c *Config) checkUsers() error {
	switch {
	case c.MaxRemember != 0 && (c.MaxRemember < c.Lifetime || c.MaxRemember > maxCookieAge):
		return fmt.Errorf("session: Config.MaxRemember is %v: it must be Config.Lifetime (%v) to 400 days, or 0",
			c.MaxRemember, c.Lifetime)
	case c.MaxPerUser < 0 || c.MaxPerUser > maxPerUser:
		return fmt.Errorf("session: Config.MaxPerUser is %d: it must be 1 to %d, or 0 for no limit",
			c.MaxPerUser, maxPerUser)
	case c.RefuseExtra && c.MaxPerUser == 0:
		return errors.New("session: Config.RefuseExtra requires Config.MaxPerUser")
	}
	if c.UserKey != nil {
		if err := ticket.CheckKey(c.UserKey); err != nil {
			return fmt.Errorf("session: Config.UserKey %w", err)
		}
	}
	for _, name := range c.KeepFields {
		if err := checkFieldName(name); err != nil {
			return fmt.Errorf("session: Config.KeepFields: %w", err)
		}
	}
	return nil
}

func checkFieldName(name string) error {
	if err := driver.Key(name).Check(); err != nil || strings.Contains(name, ":") {
		return fmt.Errorf("%q is not a field's name: 1 to %d of a-z A-Z 0-9 . _ -", name, driver.MaxName)
	}
	return nil
}

func (c *Config) checkUserData() error {
	if c.UserDataTimeout > maxLifetime {
		return fmt.Errorf("session: Config.UserDataTimeout is %v: it must be at most 10 years", c.UserDataTimeout)
	}
	seen := map[string]bool{}
	for _, f := range c.UserFields {
		if f == nil {
			return errors.New("session: Config.UserFields contains nil")
		}
		name := f.userField().name
		if err := checkFieldName(name); err != nil {
			return fmt.Errorf("session: Config.UserFields: %w", err)
		}
		if seen[name] {
			return fmt.Errorf("session: Config.UserFields: %q is there twice", name)
		}
		seen[name] = true
	}
	return nil
}

func (c *Config) checkSeal() error {
	switch {
	case !c.Seal:
		return nil
	case len(c.Keys) == 0:
		return errors.New("session: Config.Seal requires Config.Keys, which seal the values")
	case len(c.UserKey) == 0:
		return errors.New("session: Config.Seal requires Config.UserKey: without it, " +
			"a dump of the store shows who is signed in to anybody who can guess a user's id")
	}
	return nil
}
