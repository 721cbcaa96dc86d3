package storetest_test

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/storetest"
)

// brokenUsers is a driver.UserStore with some methods replaced.
type brokenUsers struct {
	*memstore.Store
	load     func(context.Context, driver.ID) (*driver.Record, time.Time, error)
	apply    func(context.Context, driver.ID, *driver.Change) (*driver.Result, error)
	signIn   func(context.Context, driver.ID, *driver.SignIn) (*driver.Result, error)
	sessions func(context.Context, driver.Hash, driver.SessionCursor, int) ([]driver.UserSession, error)
	endUser  func(context.Context, driver.Hash, driver.Selection) ([]driver.ID, error)
	endAll   func(context.Context) error
	endOwned func(context.Context, driver.ID, driver.Hash, driver.Attempt) (bool, error)
	onExpiry func(f func(driver.ExpiredSession))
	publish  func([]byte)
	follow   func(context.Context) (iter.Seq2[[]byte, error], error)
	watch    func(driver.ID, func(missed bool)) func()
	create   func(context.Context, driver.ID, *driver.RecordSpec, *driver.Change) (*driver.Result, error)
	join     func(context.Context, driver.ID, *driver.Change, driver.ID, *driver.Change) (taken, stored *driver.Result, err error)
	onReopen func()
	leaked   int
}

func (b *brokenUsers) Watch(id driver.ID, wake func(missed bool)) (stop func()) {
	if b.watch != nil {
		return b.watch(id, wake)
	}
	return b.Store.Watch(id, wake)
}

func (b *brokenUsers) OnExpiry(f func(driver.ExpiredSession)) {
	if b.onExpiry != nil {
		b.onExpiry(f)
		return
	}
	b.Store.OnExpiry(f)
}

func (b *brokenUsers) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if b.load != nil {
		return b.load(ctx, id)
	}
	return b.Store.Load(ctx, id)
}

func (b *brokenUsers) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if b.apply != nil {
		return b.apply(ctx, id, c)
	}
	return b.Store.Apply(ctx, id, c)
}

func (b *brokenUsers) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	if b.signIn != nil {
		return b.signIn(ctx, id, in)
	}
	return b.Store.SignIn(ctx, id, in)
}

func (b *brokenUsers) Sessions(
	ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
) ([]driver.UserSession, error) {
	if b.sessions != nil {
		return b.sessions(ctx, owner, after, limit)
	}
	return b.Store.Sessions(ctx, owner, after, limit)
}

// all returns all sessions of an owner.
func (b *brokenUsers) all(ctx context.Context, owner driver.Hash) ([]driver.UserSession, error) {
	return b.Store.Sessions(ctx, owner, driver.SessionCursor{}, math.MaxInt)
}

func (b *brokenUsers) EndUser(ctx context.Context, owner driver.Hash, sel driver.Selection) ([]driver.ID, error) {
	if b.endUser != nil {
		return b.endUser(ctx, owner, sel)
	}
	return b.Store.EndUser(ctx, owner, sel)
}

func (b *brokenUsers) EndAll(ctx context.Context) error {
	if b.endAll != nil {
		return b.endAll(ctx)
	}
	return b.Store.EndAll(ctx)
}

func (b *brokenUsers) Publish(event []byte) {
	if b.publish != nil {
		b.publish(event)
		return
	}
	b.Store.Publish(event)
}

func (b *brokenUsers) Follow(ctx context.Context) (iter.Seq2[[]byte, error], error) {
	if b.follow != nil {
		return b.follow(ctx)
	}
	return b.Store.Follow(ctx)
}

func (b *brokenUsers) EndAndReport(
	ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt,
) (bool, error) {
	if b.endOwned != nil {
		return b.endOwned(ctx, id, owner, attempt)
	}
	return b.Store.EndAndReport(ctx, id, owner, attempt)
}

// beforeSignIn calls f to falsify each sign-in.
func (b *brokenUsers) beforeSignIn(f func(in *driver.SignIn)) {
	b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
		falsified := *in
		f(&falsified)
		return b.Store.SignIn(ctx, id, &falsified)
	}
}

// moveInSteps makes SignIn read the old session, store the new one, and end the old one, in steps.
func (b *brokenUsers) moveInSteps(between func()) {
	b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
		steps := *in
		if in.From != nil {
			if r, _, err := b.Store.Load(ctx, in.From.ID); err == nil {
				steps.From = nil
				for _, f := range r.Fields {
					steps.Change.Ops = append(steps.Change.Ops, driver.Op{Kind: driver.Set, Key: f.Key, Value: f.Value})
				}
			}
		}
		between()
		res, err := b.Store.SignIn(ctx, id, &steps)
		if err == nil && in.From != nil {
			other := *in
			// Another sign-in replaces the old session, and is ended.
			other.Spec.Secret, other.MaxSessions = driver.Secret{1}, 0
			b.Store.SignIn(ctx, driver.ID{Bucket: id.Bucket, Selector: driver.Hash(in.Spec.Secret)}, &other)
			b.Store.End(ctx, driver.ID{Bucket: id.Bucket, Selector: driver.Hash(in.Spec.Secret)})
		}
		return res, err
	}
}

type userDefect struct {
	name     string
	caughtBy []string
	breaks   func(b *brokenUsers)
}

func init() {
	userDefects = slices.Concat(userDefects, listDefects, eventDefects, watchDefects, userDataDefects)
	for _, d := range userDefects {
		defects = append(defects, defect{d.name, d.caughtBy, nil})
	}
}

// runBrokenUsers runs the suite on a store with the named defect of userDefects, if there is one.
func runBrokenUsers(t *testing.T, name string) {
	for _, d := range userDefects {
		if d.name != name {
			continue
		}
		storetest.Run(t, storetest.Harness{
			Open: func(testing.TB) driver.Store {
				b := &brokenUsers{Store: memstore.New()}
				d.breaks(b)
				return b
			},
			Reopen: func(_ testing.TB, s driver.Store) driver.Store {
				if b := s.(*brokenUsers); b.onReopen != nil {
					b.onReopen()
				}
				return s
			},
			Second: func(_ testing.TB, s driver.Store) driver.Store {
				second := &brokenUsers{Store: s.(*brokenUsers).Store}
				d.breaks(second)
				return second
			},
			Len: func(_ testing.TB, s driver.Store) int { return s.(*brokenUsers).Len() + s.(*brokenUsers).leaked },
		})
	}
}

var userDefects = []userDefect{
	{"a sign-in drops its operations", []string{"sign-in/new"}, func(b *brokenUsers) {
		b.beforeSignIn(func(in *driver.SignIn) { in.Change.Ops = nil })
	}},
	{"all fields are carried over", []string{"sign-in/carries", "sign-in/over-another-user"},
		func(b *brokenUsers) {
			b.beforeSignIn(func(in *driver.SignIn) {
				if in.Carry != nil {
					in.Carry = func(r *driver.Record) (driver.Fields, error) {
						return append(r.Fields, driver.Field{Key: "z", Value: []byte("1")}), nil
					}
				}
			})
		}},
	{"the old session does not end", []string{"sign-in/carries", "limit/not-counted", "user/leaves-nothing"},
		func(b *brokenUsers) {
			b.beforeSignIn(func(in *driver.SignIn) { in.From = nil })
		}},
	{"moved markers are kept forever", []string{"sign-in/moved-for-a-while"}, func(b *brokenUsers) {
		moved := sync.Map{}
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			r, now, err := b.Store.Load(ctx, id)
			if errors.Is(err, driver.ErrMoved) {
				moved.Store(id, true)
			}
			if _, ok := moved.Load(id); ok {
				err = driver.ErrMoved
			}
			return r, now, err
		}
	}},
	{"End removes the moved marker", []string{"sign-in/moved-and-ended"}, func(b *brokenUsers) {
		ended := sync.Map{}
		b.endOwned = func(ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt) (bool, error) {
			ended.Store(id, true)
			return b.Store.EndAndReport(ctx, id, owner, attempt)
		}
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			r, now, err := b.Store.Load(ctx, id)
			if _, ok := ended.Load(id); ok && err != nil {
				err = driver.ErrNotFound
			}
			return r, now, err
		}
	}},
	{"user ids are converted to text", []string{"sign-in/principal"}, func(b *brokenUsers) {
		b.beforeSignIn(func(in *driver.SignIn) {
			p := *in.Spec.Principal
			p.User = string([]rune(p.User))
			in.Spec.Principal = &p
		})
	}},
	{"an earlier authentication counts from the sign-in", []string{"sign-in/authenticated-before"}, func(b *brokenUsers) {
		b.beforeSignIn(func(in *driver.SignIn) { in.AuthenticatedAgo = 0 })
	}},
	{"sealed principals are replaced", []string{"sign-in/sealed-principal"}, func(b *brokenUsers) {
		b.beforeSignIn(func(in *driver.SignIn) {
			p := *in.Spec.Principal
			if p.Sealed != "" {
				p.User, p.Sealed = "nobody", ""
			}
			in.Spec.Principal = &p
		})
	}},
	{"invalid principals are corrected", []string{"sign-in/bad-principal"}, func(b *brokenUsers) {
		b.beforeSignIn(func(in *driver.SignIn) {
			p := *in.Spec.Principal
			p.Level = min(max(p.Level, 0), driver.MaxLevel)
			in.Spec.Principal = &p
		})
	}},
	{"a refused sign-in ends the old session", []string{"sign-in/refused-change", "limit/refuse",
		"user/revoked", "user/too-long-ago"},
		func(b *brokenUsers) {
			b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
				res, err := b.Store.SignIn(ctx, id, in)
				if err != nil && in.From != nil {
					b.End(ctx, in.From.ID)
				}
				return res, err
			}
		}},
	{"a late sign-in brings an ended session back", []string{"user/sign-in-after-end"}, func(b *brokenUsers) {
		b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
			res, err := b.Store.SignIn(ctx, id, in)
			if _, _, gone := b.Store.Load(ctx, id); errors.Is(err, driver.ErrExists) && gone != nil {
				id.Selector[0]++ // memstore refuses the id itself
				return b.Store.SignIn(ctx, id, in)
			}
			return res, err
		}
	}},
	{"a sign-in replaces a session by its id alone", []string{"sign-in/no-session-before"},
		func(b *brokenUsers) {
			b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
				falsified := *in
				if in.From != nil {
					if r, _, err := b.Store.Load(ctx, in.From.ID); err == nil {
						falsified.From = &driver.Credential{ID: in.From.ID, Verifier: r.Tokens.Current}
					}
				}
				return b.Store.SignIn(ctx, id, &falsified)
			}
		}},
	{"a token in its grace period has no session", []string{"sign-in/rotated-before"}, func(b *brokenUsers) {
		b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
			falsified := *in
			if in.From != nil {
				if r, _, err := b.Store.Load(ctx, in.From.ID); err == nil && r.Tokens.Current != in.From.Verifier {
					falsified.From = nil
				}
			}
			return b.Store.SignIn(ctx, id, &falsified)
		}
	}},
	{"each sign-in at an existing id is a repetition", []string{"sign-in/repeated"}, func(b *brokenUsers) {
		b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
			if r, now, err := b.Store.Load(ctx, id); err == nil {
				return &driver.Result{Record: r, Now: now}, nil
			}
			return b.Store.SignIn(ctx, id, in)
		}
	}},
	{"a sign-in is done in steps", []string{"sign-in/against-writers", "sign-in/against-takes"},
		func(b *brokenUsers) {
			b.moveInSteps(func() { time.Sleep(time.Millisecond) })
			b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
				time.Sleep(200 * time.Microsecond)
				return b.Store.Apply(ctx, id, c)
			}
		}},
	{"SignIn ignores the context", []string{"sign-in/cancelled"}, func(b *brokenUsers) {
		b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
			return b.Store.SignIn(context.WithoutCancel(ctx), id, in)
		}
	}},
	{"the limit is one too high", []string{"limit/oldest", "limit/lowered", "limit/exact",
		"limit/exact-refuse", "limit/against-renewal", "limit/refuse"},
		func(b *brokenUsers) {
			b.beforeSignIn(func(in *driver.SignIn) {
				if in.MaxSessions > 0 {
					in.MaxSessions++
				}
			})
		}},
	{"the limit is enforced a moment later", []string{"limit/exact"}, func(b *brokenUsers) {
		b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
			unlimited := *in
			unlimited.MaxSessions = 0
			res, err := b.Store.SignIn(ctx, id, &unlimited)
			if err != nil || in.MaxSessions == 0 {
				return res, err
			}
			time.Sleep(10 * time.Microsecond)
			list, err := b.all(ctx, in.Spec.Principal.Owner)
			for _, s := range list[min(in.MaxSessions, len(list)):] {
				ended, _ := b.Store.EndUser(ctx, in.Spec.Principal.Owner, driver.Selection{Only: []driver.ID{s.ID}})
				res.Evicted = append(res.Evicted, ended...)
			}
			return res, err
		}
	}},
	{"EndUser leaves the oldest session", []string{"user/end-all", "user/second", "user/thousand-sessions"},
		func(b *brokenUsers) {
			b.endUser = func(ctx context.Context, owner driver.Hash, sel driver.Selection) ([]driver.ID, error) {
				if list, err := b.all(ctx, owner); err == nil && len(list) > 1 {
					sel.Except = append(sel.Except, list[len(list)-1].ID)
				}
				return b.Store.EndUser(ctx, owner, sel)
			}
		}},
	{"an excepted session stays forever", []string{"user/end-keeps"}, func(b *brokenUsers) {
		var kept []driver.ID
		b.endUser = func(ctx context.Context, owner driver.Hash, sel driver.Selection) ([]driver.ID, error) {
			if sel.Only == nil {
				kept = append(kept, sel.Except...)
				sel.Except = kept
			}
			return b.Store.EndUser(ctx, owner, sel)
		}
	}},
	{"EndUser takes effect a moment later", []string{"user/end-against-writers"}, func(b *brokenUsers) {
		b.endUser = func(ctx context.Context, owner driver.Hash, sel driver.Selection) ([]driver.ID, error) {
			go func() {
				time.Sleep(10 * time.Millisecond)
				b.Store.EndUser(context.WithoutCancel(ctx), owner, sel)
			}()
			return nil, nil
		}
	}},
	{"a cache survives EndUser and EndAll", []string{"user/second-keeps", "user/second-everybody"},
		func(b *brokenUsers) {
			copies := newCopies()
			b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
				if r := copies.get(id); r != nil {
					return r, time.Now(), nil
				}
				r, now, err := b.Store.Load(ctx, id)
				if err == nil {
					copies.put(id, r)
				}
				return r, now, err
			}
		}},
	{"exceptions are ignored", []string{"user/end-except"}, func(b *brokenUsers) {
		b.endUser = func(ctx context.Context, owner driver.Hash, sel driver.Selection) ([]driver.ID, error) {
			sel.Except = nil
			return b.Store.EndUser(ctx, owner, sel)
		}
	}},
	{"a user ends other users' sessions by their ids", []string{"user/end-only"}, func(b *brokenUsers) {
		b.endUser = func(ctx context.Context, owner driver.Hash, sel driver.Selection) ([]driver.ID, error) {
			for _, id := range sel.Only {
				defer b.End(ctx, id)
			}
			return b.Store.EndUser(ctx, owner, sel)
		}
	}},
	{"EndUser ends one session after another", []string{"user/end-in-one-step", "user/revoked"},
		func(b *brokenUsers) {
			b.endUser = func(ctx context.Context, owner driver.Hash, sel driver.Selection) (ended []driver.ID, err error) {
				list, err := b.all(ctx, owner)
				for _, s := range list {
					if !sel.Matches(s.ID) {
						continue
					}
					time.Sleep(10 * time.Microsecond)
					one, _ := b.Store.EndUser(ctx, owner, driver.Selection{Only: []driver.ID{s.ID}})
					ended = append(ended, one...)
				}
				return ended, err
			}
		}},
	{"an authentication begins when the store gets to it", []string{"user/end-against-sign-ins"},
		func(b *brokenUsers) {
			b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
				time.Sleep(time.Millisecond)
				return b.Store.SignIn(ctx, id, in)
			}
		}},
	{"EndAll leaves anonymous sessions", []string{"user/end-everybody"}, func(b *brokenUsers) {
		var owners sync.Map
		b.beforeSignIn(func(in *driver.SignIn) { owners.Store(in.Spec.Principal.Owner, true) })
		b.endAll = func(ctx context.Context) (err error) {
			owners.Range(func(owner, _ any) bool {
				_, err = b.Store.EndUser(ctx, owner.(driver.Hash), driver.Selection{})
				return err == nil
			})
			return err
		}
	}},
	{"a restart loses revocations", []string{"user/reopen-revoked"}, func(b *brokenUsers) {
		var lost atomic.Bool
		b.onReopen = func() { lost.Store(true) }
		b.beforeSignIn(func(in *driver.SignIn) {
			if lost.Load() {
				in.Elapsed = 0
			}
		})
	}},
}
