package polyglot_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck-go/session"
)

// act makes one action. It returns nil if the action has no value.
func (r *goRequest) act(ctx context.Context, s *session.Session, action []json.RawMessage) (json.RawMessage, error) {
	word := text(action[0])
	switch word {
	case "sessions", "count sessions", "revoke", "revoke user", "revoke everybody", "delete user", "data of":
		return r.client.manage(ctx, word, action[1:])
	case "data":
		data, err := s.UserData(ctx)
		if err != nil {
			return nil, err
		}
		return r.act(ctx, data, action[1:])
	case "commit":
		return nil, s.Commit(ctx)
	case "renew":
		return nil, s.Renew(ctx)
	case "sign in":
		return nil, signIn(ctx, s, action[1])
	case "sign out":
		return nil, s.SignOut(ctx)
	case "user":
		return encoded(orNull(s.User())), nil
	case "info":
		i := s.Info()
		return encoded(map[string]any{
			"user": i.User, "methods": append([]string{}, i.Methods...), "level": i.Level,
			"device": i.Device, "user_agent": i.UserAgent, "address": i.Address,
		}), nil
	case "lifetime":
		i := s.Info()
		return encoded(i.Deadline.Sub(i.Created).Milliseconds()), nil
	}
	return change(ctx, s, action)
}

// change makes an action on fields.
func change(ctx context.Context, s *session.Session, action []json.RawMessage) (json.RawMessage, error) {
	word := text(action[0])
	if len(action) == 1 { // "clear"
		s.Clear()
		return nil, nil
	}
	name := text(action[1])
	if field, key, isEntry := strings.Cut(name, ":"); isEntry {
		return entryAction(ctx, s, word, field, key, action[2:])
	}
	return fieldAction(ctx, s, word, name, action[2:])
}

// fieldAction makes an action on a field: a value, a counter, or a whole map.
func fieldAction(ctx context.Context, s *session.Session, word, name string, args []json.RawMessage) (json.RawMessage, error) {
	v, c := session.Value[json.RawMessage](name), session.Counter(name)
	switch word {
	case "get":
		return orNothing(v.Get(s)), nil
	case "has":
		_, ok, _ := v.Lookup(s)
		return encoded(ok), nil
	case "set":
		v.Set(s, args[0])
	case "set broken":
		session.Value[string](name).Set(s, "\xff")
	case "unset":
		v.Delete(s)
	case "take":
		b, _, err := v.Take(ctx, s)
		return orNothing(b), err
	case "append":
		list, err := session.Value[[]json.RawMessage](name).Update(ctx, s, func(list []json.RawMessage) ([]json.RawMessage, error) {
			return append(list, args[0]), nil
		})
		return encoded(list), err
	case "count":
		return encoded(strconv.FormatInt(c.Get(s), 10)), nil
	case "add":
		c.Add(s, number(args[0]))
	case "add within":
		return decimal(c.AddWithin(ctx, s, number(args[0]), number(args[1]), number(args[2])))
	case "entries":
		all := map[string]json.RawMessage{}
		for key, b := range session.Map[json.RawMessage](name).All(s) {
			all[key] = b
		}
		return encoded(all), nil
	case "counts":
		all := map[string]string{}
		for key, n := range session.Counters(name).All(s) {
			all[key] = strconv.FormatInt(n, 10)
		}
		return encoded(all), nil
	case "clear":
		session.Map[json.RawMessage](name).Clear(s)
	default:
		return nil, fmt.Errorf("unknown action %q on a field", word)
	}
	return nil, nil
}

// entryAction makes an action on an entry of a map.
func entryAction(ctx context.Context, s *session.Session, word, field, key string, args []json.RawMessage) (json.RawMessage, error) {
	m, c := session.Map[json.RawMessage](field), session.Counters(field)
	switch word {
	case "get":
		b, _ := m.Get(s, key)
		return orNothing(b), nil
	case "has":
		_, ok := m.Get(s, key)
		return encoded(ok), nil
	case "set":
		m.Set(s, key, args[0])
	case "set broken":
		session.Map[string](field).Set(s, key, "\xff")
	case "unset":
		m.Delete(s, key)
	case "take":
		b, _, err := m.Take(ctx, s, key)
		return orNothing(b), err
	case "append":
		list, err := session.Map[[]json.RawMessage](field).Update(ctx, s, key, func(list []json.RawMessage, _ bool) ([]json.RawMessage, error) {
			return append(list, args[0]), nil
		})
		return encoded(list), err
	case "count":
		return encoded(strconv.FormatInt(c.Get(s, key), 10)), nil
	case "add":
		c.Add(s, key, number(args[0]))
	case "add within":
		return decimal(c.AddWithin(ctx, s, key, number(args[0]), number(args[1]), number(args[2]), int(number(args[3]))))
	case "set within":
		return nil, m.SetWithin(ctx, s, key, args[0], int(number(args[1])))
	default:
		return nil, fmt.Errorf("unknown action %q on an entry", word)
	}
	return nil, nil
}

// manage makes an action of the Manager.
func (c *goClient) manage(ctx context.Context, word string, args []json.RawMessage) (json.RawMessage, error) {
	switch word {
	case "sessions", "count sessions":
		handles, seen := []string{}, map[string]bool{}
		for info, err := range c.manager.Sessions(ctx, text(args[0])) {
			if err != nil {
				return nil, err
			}
			handles = append(handles, info.Handle)
			seen[info.Handle] = true
		}
		if word == "count sessions" {
			return encoded(len(seen)), nil
		}
		return encoded(handles), nil
	case "revoke":
		return nil, c.manager.Revoke(ctx, text(args[0]), text(args[1]))
	case "revoke user":
		var keep []string
		if err := json.Unmarshal(args[1], &keep); err != nil {
			return nil, err
		}
		n, err := c.manager.RevokeUser(ctx, text(args[0]), keep...)
		return encoded(n), err
	case "delete user":
		n, err := c.manager.DeleteUser(ctx, text(args[0]))
		return encoded(n), err
	case "data of":
		data, err := c.manager.UserData(ctx, text(args[0]))
		if err != nil {
			return nil, err
		}
		v, err := change(ctx, data, args[1:])
		if err != nil {
			return nil, err
		}
		return v, data.Commit(ctx)
	}
	return nil, c.manager.RevokeAll(ctx)
}

func signIn(ctx context.Context, s *session.Session, arg json.RawMessage) error {
	var l struct {
		User, Device, Address string
		UserAgent             string `json:"user_agent"`
		Methods               []string
		Level                 int
		Remember              int64 `json:"remember_ms"`
		Lifetime              int64 `json:"lifetime_ms"`
		BeganAgo              int64 `json:"began_ago_ms"`
	}
	if err := json.Unmarshal(arg, &l); err != nil {
		return err
	}
	login := session.Login{
		User: l.User, Methods: l.Methods, Level: l.Level, Device: l.Device, UserAgent: l.UserAgent, Address: l.Address,
		Remember: milliseconds(l.Remember), Lifetime: milliseconds(l.Lifetime),
	}
	if l.BeganAgo != 0 {
		login.Began = time.Now().Add(-milliseconds(l.BeganAgo))
	}
	return s.SignIn(ctx, login)
}

func text(b json.RawMessage) (s string) {
	if err := json.Unmarshal(b, &s); err != nil {
		panic(err)
	}
	return s
}

// number decodes a number, or a text with decimal digits.
func number(b json.RawMessage) int64 {
	n, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// decimal returns a count as a text, as the suite has it.
func decimal(n int64, err error) (json.RawMessage, error) {
	return encoded(strconv.FormatInt(n, 10)), err
}

func encoded(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// orNothing returns null for no value.
func orNothing(b json.RawMessage) json.RawMessage {
	if b == nil {
		return json.RawMessage("null")
	}
	return b
}
