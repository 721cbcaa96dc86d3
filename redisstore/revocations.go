package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// revocation says which of a user's sessions are none any more, whatever is left of them and of the user's index: those created until
// since, in milliseconds, but the kept ones. It stands in a hash of the user's bucket, since a token names the bucket and not the user.
type revocation struct {
	since int64
	kept  string // {"." name "." created}
}

func parseRevocation(text string) (r revocation, err error) {
	since, rest, _ := strings.Cut(text, ".")
	_, kept, _ := strings.Cut(rest, ".")
	if r.since, err = strconv.ParseInt(since, 10, 64); err != nil {
		return r, fmt.Errorf("redisstore: revocation %.80q: %w", text, driver.ErrFormat)
	}
	if kept != "" {
		r.kept = "." + kept
	}
	return r, nil
}

// covers reports whether a session of the user is revoked.
func (r revocation) covers(id driver.ID, created time.Time) bool {
	return created.UnixMilli() <= r.since && !strings.Contains(r.kept, "."+id.Selector.String()+".")
}

// revoked reports whether a record that was read is that of a session which was revoked; revocations are those of its bucket.
func (s *Store) revoked(id driver.ID, r *driver.Record, revocations map[string]string) (bool, error) {
	if s.all.covers(r) {
		return true, nil
	}
	if r.Principal == nil || len(revocations) == 0 {
		return false, nil
	}
	text, ok := revocations[r.Principal.Owner.String()]
	if !ok {
		return false, nil
	}
	revocation, err := parseRevocation(text)
	return revocation.covers(id, r.Created), err
}

// repetitions are the revocations that this process made. As ends they are repeated: a failover may have undone them. The zero repetitions
// are ready.
type repetitions struct {
	mu sync.Mutex
	of map[driver.Hash]*repetition // by owner
}

type repetition struct {
	owner driver.Hash
	text  string
	until time.Time // forgotten then
	tries int       // how often it was repeated
	at    time.Time // due then; zero: not any more
	made  time.Time // when its answer was there
}

const repetitionsKept = 10_000

func (p *repetitions) add(owner driver.Hash, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[driver.Hash]*repetition{}
	}
	if p.of[owner] == nil && len(p.of) >= repetitionsKept {
		p.removeOldest()
	}
	now := time.Now()
	p.of[owner] = &repetition{owner, text, now.Add(endsFor), 0, now.Add(endDelays[0]), now}
}

func (p *repetitions) removeOldest() {
	var oldest *repetition
	for _, r := range p.of {
		if oldest == nil || r.made.Before(oldest.made) {
			oldest = r
		}
	}
	delete(p.of, oldest.owner)
}

// own returns the last revocation of an owner, the zero repetition if there was none.
func (p *repetitions) own(owner driver.Hash) (own repetition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.of[owner]; r != nil {
		own = *r
	}
	return own
}

// forget has the revocation of an owner not repeated.
func (p *repetitions) forget(owner driver.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, owner)
}

// due returns what is to be repeated now.
func (p *repetitions) due(now time.Time, all bool) (due []repetition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for owner, r := range p.of {
		if !now.Before(r.until) {
			delete(p.of, owner)
			continue
		}
		if !all && (r.at.IsZero() || now.Before(r.at)) {
			continue
		}
		due = append(due, *r)
		if r.tries++; r.tries < len(endDelays) {
			r.at = now.Add(endDelays[r.tries] - endDelays[r.tries-1])
		} else {
			r.at = time.Time{}
		}
	}
	return due
}

// retry has a revocation repeated again that could not be sent.
func (p *repetitions) retry(owner driver.Hash, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.of[owner]; r != nil {
		r.tries, r.at = 0, now.Add(endDelays[0])
	}
}

// after returns when an authentication began, in milliseconds by the server's clock, which does not tell what came first within one, and
// which is as far as this process knows that of another server, that is behind. What began here after a revocation that this process made began after
// it: so who resets a password is signed in at once, with a pause of a millisecond.
func (s *Store) after(owner driver.Hash, ago time.Duration) int64 {
	local, began := time.Now().Add(-ago), s.clock.now().Add(-ago).UnixMilli()
	own := s.made.own(owner)
	r, err := parseRevocation(own.text)
	if own.text == "" || err != nil || !local.After(own.made) || began > r.since {
		return began
	}
	for range 3 {
		if s.clock.now().UnixMilli() > r.since {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return r.since + 1
}

// repeatRevocations repeats those that are due, or all, some at a time: one after the other, ten thousand would take longer than a failover may show.
func (s *Store) repeatRevocations(ctx context.Context, all bool) {
	for batch := range slices.Chunk(s.made.due(time.Now(), all), 64) {
		var each sync.WaitGroup
		for _, r := range batch {
			each.Go(func() {
				limit, cancel := context.WithTimeout(ctx, s.opt.Timeout)
				defer cancel()
				_, err := s.execPlain(limit, endUserScript, s.userKeys(r.owner, nil), []string{r.owner.String(), "again", r.text, "0"})
				if err != nil {
					s.made.retry(r.owner, time.Now())
				}
			})
		}
		each.Wait()
		if ctx.Err() != nil {
			return
		}
	}
}

// errTooManyKept is the refusal of more exceptions than a revocation can name.
var errTooManyKept = fmt.Errorf("redisstore: at most %d sessions can be kept while a user's other ones are ended", driver.MaxExcept)

// moving reports that a server has some of a script's keys and not the others, since their slot is on its way to another one.
func moving(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "TRYAGAIN")
}

// execMoving runs a script on one session whose slot is moving: without the revocations, which may not be where the session is, and
// which are read after it. A session that was revoked is changed then, which nobody ever sees.
func (s *Store) execMoving(ctx context.Context, script *rueidis.Lua, id driver.ID, keys, args []string) (reply, error) {
	r, err := s.execKeys(ctx, script, keys, args)
	if err != nil || r.status != "ok" {
		return r, err
	}
	_, _, err = s.read(ctx, s.plain, id)
	switch {
	case errors.Is(err, errRevoked):
		return reply{status: "gone"}, nil
	case err == nil, errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved):
		return r, nil
	}
	return r, fmt.Errorf("%w: %v", driver.ErrUnknown, err)
}
