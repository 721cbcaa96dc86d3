package app

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

func init() {
	register(System{
		Name:    ByHand,
		Role:    Limit,
		Modules: []string{"github.com/redis/rueidis"},
		Cases:   []string{CaseSignIn},
		SignIn:  SignIn{NewToken: true, UserList: true, Revocations: true},
		open: overNetHTTP(func(o Options) (Library, error) {
			library, err := openOneCommand(o)
			if err != nil {
				return nil, err
			}
			return byHand{library.(oneCommand)}, nil
		}),
	})
}

// byHand does the work of a sign-in of coatcheck with plain commands, in one round trip. It checks
// the revocations after it has stored the session. If the process crashes in between, the session
// of a user who was revoked stays.
type byHand struct{ oneCommand }

var errRevoked = errors.New("the user was revoked")

func (b byHand) SignIn(w http.ResponseWriter, r *http.Request, user string) error {
	const lifetime = 24 * time.Hour
	c := b.redis
	token, now := newCookie(w), time.Now()
	session, index := keyPrefix+token, "user:"+user
	ttl, score := lifetime.Milliseconds(), float64(now.UnixMilli())
	fields := c.B().Hset().Key(session).FieldValue().
		FieldValue(userName, user).FieldValue("signed_in", strconv.FormatInt(now.UnixMilli(), 10))
	replies := c.DoMulti(r.Context(),
		fields.Build(),
		c.B().Pexpire().Key(session).Milliseconds(ttl).Build(),
		c.B().Zadd().Key(index).ScoreMember().ScoreMember(score, token).Build(),
		c.B().Pexpire().Key(index).Milliseconds(ttl).Build(),
		c.B().Hget().Key("revoked-users").Field(user).Build(),
		c.B().Get().Key("revoked-all").Build(),
	)
	checks := len(replies) - 2
	for _, reply := range replies[:checks] {
		if err := reply.Error(); err != nil {
			return err
		}
	}
	for _, reply := range replies[checks:] {
		if err := reply.Error(); err == nil {
			return errors.Join(errRevoked, c.Do(r.Context(), c.B().Del().Key(session).Build()).Error())
		} else if !rueidis.IsRedisNil(err) {
			return err
		}
	}
	return nil
}
