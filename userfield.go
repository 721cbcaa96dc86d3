package session

import (
	"errors"

	"github.com/coatcheck-go/session/driver"
)

// Field is a [Value], a [Map], a [Counter] or a [Counters]. [Config].UserFields takes them.
type Field interface{ userField() userField }

// userField says what becomes of a field when it moves to the user's data.
type userField struct {
	name string
	adds bool // counts are added; otherwise the session's values replace those of the user
}

func (v Value[T]) userField() userField { return userField{name: string(v)} }
func (m Map[T]) userField() userField   { return userField{name: string(m)} }
func (c Counter) userField() userField  { return userField{name: string(c), adds: true} }
func (c Counters) userField() userField { return userField{name: string(c), adds: true} }

// userFieldsOf returns Config.UserFields by name.
func userFieldsOf(store driver.Store, c *Config) (map[string]userField, error) {
	if len(c.UserFields) == 0 {
		return nil, nil
	}
	if _, ok := store.(driver.Joiner); !ok {
		return nil, errors.New("session: Config.UserFields needs a store that keeps the data of users (a driver.Joiner)")
	}
	fields := make(map[string]userField, len(c.UserFields))
	for _, f := range c.UserFields {
		fields[f.userField().name] = f.userField()
	}
	return fields, nil
}
