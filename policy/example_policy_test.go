package policy_test

import (
	"fmt"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/policy"
)

func Example() {
	sessions, err := session.New(memstore.New(), session.Config{Policy: policy.AAL2, MaxPerUser: 5})
	if err != nil {
		panic(err)
	}
	c := sessions.Config()
	fmt.Println("idle", c.IdleTimeout, "lifetime", c.Lifetime, "CSRF", c.CSRF)

	_, err = session.New(memstore.New(), session.Config{Policy: policy.AAL2, Lifetime: 30 * time.Hour})
	fmt.Println(err)
	// Output:
	// idle 1h0m0s lifetime 24h0m0s CSRF true
	// session: Config.Lifetime is 30h0m0s, more than 24h0m0s: AAL2 (NIST SP 800-63B-4, 2.2.3)
}
