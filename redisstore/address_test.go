package redisstore_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestStoreFollowsAnAddressToAnotherPrimary promotes a replica behind one address, as a Kubernetes
// service, a DNS name or a TCP proxy does. The old primary lives on as a replica, and open
// connections still lead to it. The store must dial the address again. The writes must succeed
// within a second after the address leads to the new primary.
func TestStoreFollowsAnAddressToAnotherPrimary(t *testing.T) {
	for _, o := range []redisstore.Options{{}, {NearCache: -1}} {
		for _, late := range []time.Duration{0, 1500 * time.Millisecond} {
			t.Run(fmt.Sprintf("near cache %d, address changes %v after the roles", o.NearCache, late), func(t *testing.T) {
				limitParallel(t)
				followAddress(t, o, late)
			})
		}
	}
}

func followAddress(t *testing.T, o redisstore.Options, late time.Duration) {
	a, b := redistest.Start(t, redistest.Options{}), redistest.Start(t, redistest.Options{})
	p := startProxy(t, a.Addr())
	s := mustOpen(t, "redis://"+p.Addr(), o)
	id, verifier := mustSignIn(t, s, "ada")
	ended, _ := mustSignIn(t, s, "eve")
	dump, err := a.Do("DUMP", sessionKey(ended))
	must(t, err)
	must(t, s.End(t.Context(), ended))
	if o.NearCache == 0 {
		mustWarm(t, s, id)
	}
	mustReplicate(t, b, a)

	// The new primary did not receive the sign-out.
	_, err = b.Do("REPLICAOF", "NO", "ONE")
	must(t, err)
	_, err = b.Do("RESTORE", sessionKey(ended), "0", dump.(string), "REPLACE")
	must(t, err)
	_, err = a.Do("REPLICAOF", "127.0.0.1", strconv.Itoa(b.Port()))
	must(t, err)
	time.Sleep(late)
	p.lead(b.Addr())
	begin := time.Now()
	eventually(t, time.Second, func() error {
		_, err := s.Apply(t.Context(), id, incrementWith(verifier))
		return err
	})
	t.Logf("the first write succeeded %v after the address changed", time.Since(begin))
	eventually(t, 5*time.Second, func() error {
		if n, err := b.Do("EXISTS", sessionKey(ended)); err != nil || n != int64(0) {
			return fmt.Errorf("the ended session exists on the new primary: %v, error %v", n, err)
		}
		return nil
	})
	// Reads and user operations use the new primary, too.
	if o.NearCache == 0 {
		mustWarm(t, s, id)
	}
	other := mustOpen(t, "redis://"+b.Addr(), redisstore.Options{})
	must(t, other.End(t.Context(), id))
	eventually(t, 200*time.Millisecond, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load of a session that ended on the new primary: %v, want ErrNotFound", err)
		}
		return nil
	})
	eventually(t, time.Second, func() error {
		id, in := newSignIn("joe", 0)
		_, err := s.SignIn(t.Context(), id, in)
		return err
	})
}

// mustReplicate makes a server the replica of another one, and waits until it has the data.
func mustReplicate(t *testing.T, replica, primary *redistest.Node) {
	t.Helper()
	_, err := replica.Do("REPLICAOF", "127.0.0.1", strconv.Itoa(primary.Port()))
	must(t, err)
	eventually(t, 20*time.Second, func() error {
		info, err := replica.Do("INFO", "replication")
		if err == nil && !strings.Contains(info.(string), "master_link_status:up") {
			err = errors.New("the replica is not connected")
		}
		return err
	})
}
