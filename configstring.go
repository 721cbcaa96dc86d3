package session

import "fmt"

// String returns the configuration without its keys.
func (c Config) String() string {
	type plain Config // without String
	keys, userKey := len(c.Keys), len(c.UserKey) > 0
	c.Keys, c.UserKey = nil, nil
	return fmt.Sprintf("%+v (keys: %d, user key: %t)", plain(c), keys, userKey)
}

// GoString is String for the format %#v.
func (c Config) GoString() string { return c.String() }
