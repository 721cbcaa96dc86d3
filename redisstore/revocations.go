package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// revocation ends a user's sessions that were created until a time, but for exceptions. It holds
// also if the sessions' hashes are still there, and if the user's index is lost. It is stored in a
// hash of the user's bucket, because a token names the bucket and not the user.
//
// Its stored form has numbers of 12 hexadecimal digits: since, until, and for each exception its
// name and when it was created.
type revocation struct {
	since int64  // in milliseconds
	kept  string // the exceptions, exceptionWidth bytes each
}

// Widths of the parts of a stored revocation, in bytes.
const (
	timeWidth      = 12
	nameWidth      = 22
	exceptionWidth = nameWidth + timeWidth
)

func parseRevocation(text string) (r revocation, err error) {
	malformed := fmt.Errorf("redisstore: revocation %.80q: %w", text, driver.ErrFormat)
	if len(text) < 2*timeWidth || (len(text)-2*timeWidth)%exceptionWidth != 0 {
		return r, malformed
	}
	since, ok := parseTime(text[:timeWidth])
	if !ok {
		return r, malformed
	}
	return revocation{since, text[2*timeWidth:]}, nil
}

// covers reports whether the revocation ended a session of the user. created is in milliseconds.
func (r revocation) covers(id driver.ID, created int64) bool {
	if created > r.since {
		return false
	}
	name := id.Selector.String()
	for kept := r.kept; kept != ""; kept = kept[exceptionWidth:] {
		if kept[:nameWidth] == name {
			return false
		}
	}
	return true
}

// parseTime reads a stored time: milliseconds as 12 lower-case hexadecimal digits.
func parseTime(text string) (ms int64, ok bool) {
	if len(text) != timeWidth || strings.Trim(text, "0123456789abcdef") != "" {
		return 0, false
	}
	ms, err := strconv.ParseInt(text, 16, 64)
	return ms, err == nil
}

// revokedAt returns when a session was revoked, with its user's or with all users' sessions, or the
// zero time. revocations are those of its bucket.
func (s *Store) revokedAt(id driver.ID, r *driver.Record, revocations map[string]string) (at time.Time, err error) {
	if s.global.covers(r) {
		return s.global.time(), nil
	}
	if r.Principal == nil {
		return at, nil
	}
	return userRevokedAt(id, ownership{owner: r.Principal.Owner, created: r.Created.UnixMilli()}, revocations)
}

// userRevokedAt returns when a session was revoked with its user's sessions, or the zero time.
func userRevokedAt(id driver.ID, o ownership, revocations map[string]string) (at time.Time, err error) {
	if len(revocations) == 0 {
		return at, nil
	}
	text, ok := revocations[o.owner.String()]
	if !ok {
		return at, nil
	}
	revocation, err := parseRevocation(text)
	if err == nil && revocation.covers(id, o.created) {
		at = time.UnixMilli(revocation.since)
	}
	return at, err
}

// ownRevocations are the revocations that this process made. They are repeated as ends are,
// because a failover may undo them. The zero ownRevocations is ready.
type ownRevocations struct {
	mu      sync.Mutex
	byOwner map[driver.Hash]*ownRevocation
}

type ownRevocation struct {
	owner        driver.Hash
	text         string
	acknowledged time.Time
	forget       time.Time
	repeated     int       // how often
	next         time.Time // the next repetition; zero: only with all others
}

const maxOwnRevocations = 10_000

func (o *ownRevocations) add(owner driver.Hash, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byOwner == nil {
		o.byOwner = map[driver.Hash]*ownRevocation{}
	}
	if o.byOwner[owner] == nil && len(o.byOwner) >= maxOwnRevocations {
		o.removeOldest()
	}
	now := time.Now()
	o.byOwner[owner] = &ownRevocation{
		owner: owner, text: text, acknowledged: now, forget: now.Add(keepEndsFor), next: now.Add(repeatDelays[0]),
	}
}

func (o *ownRevocations) removeOldest() {
	var oldest *ownRevocation
	for _, r := range o.byOwner {
		if oldest == nil || r.acknowledged.Before(oldest.acknowledged) {
			oldest = r
		}
	}
	delete(o.byOwner, oldest.owner)
}

// last returns the last revocation of an owner, or the zero ownRevocation.
func (o *ownRevocations) last(owner driver.Hash) (last ownRevocation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r := o.byOwner[owner]; r != nil {
		last = *r
	}
	return last
}

// remove stops the repetition of an owner's revocation.
func (o *ownRevocations) remove(owner driver.Hash) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byOwner, owner)
}

// due returns the revocations to repeat now.
func (o *ownRevocations) due(now time.Time, all bool) (due []ownRevocation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for owner, r := range o.byOwner {
		if !now.Before(r.forget) {
			delete(o.byOwner, owner)
			continue
		}
		if !all && (r.next.IsZero() || now.Before(r.next)) {
			continue
		}
		due = append(due, *r)
		if r.repeated++; r.repeated < len(repeatDelays) {
			r.next = now.Add(repeatDelays[r.repeated] - repeatDelays[r.repeated-1])
		} else {
			r.next = time.Time{}
		}
	}
	return due
}

// retry schedules a revocation that could not be sent.
func (o *ownRevocations) retry(owner driver.Hash, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r := o.byOwner[owner]; r != nil {
		r.repeated, r.next = 0, now.Add(repeatDelays[0])
	}
}

// reassertRevocations repeats the revocations that are due, or all. It sends 64 at a time: one by
// one, ten thousand would take too long after a failover. It also puts back a global revocation
// that a failover lost.
func (s *Store) reassertRevocations(ctx context.Context, all bool) {
	var sending sync.WaitGroup
	if s.global.lost.Load() {
		sending.Go(func() {
			limit, cancel := context.WithTimeout(ctx, s.opt.Timeout)
			defer cancel()
			// On an error the next tick does it.
			_, _ = s.raiseGlobalRevocation(limit, s.global.argument(), false)
		})
	}
	for batch := range slices.Chunk(s.ownRevocations.due(time.Now(), all), 64) {
		for _, r := range batch {
			sending.Go(func() {
				limit, cancel := context.WithTimeout(ctx, s.opt.Timeout)
				defer cancel()
				args := []string{"again", r.text, "0"}
				if _, err := s.exec(limit, s.plain, endUserScript, s.endUserKeys(r.owner, nil), args); err != nil {
					s.ownRevocations.retry(r.owner, time.Now())
				}
			})
		}
		sending.Wait()
		if ctx.Err() != nil {
			return
		}
	}
	sending.Wait()
}

// authBegan returns when an authentication began, in milliseconds of the server's clock. That
// clock does not order what happens within a millisecond. This process knows it only
// approximately if another server is behind. But an authentication that began here after the reply
// to an own revocation began after that revocation. So a user who resets a password is signed in
// at once, after a pause of at most some milliseconds.
func (s *Store) authBegan(owner driver.Hash, ago time.Duration) int64 {
	local, began := time.Now().Add(-ago), s.clock.now().Add(-ago).UnixMilli()
	own := s.ownRevocations.last(owner)
	r, err := parseRevocation(own.text)
	if own.text == "" || err != nil || !local.After(own.acknowledged) || began > r.since {
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
