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
	fmt.Println("idle", sessions.Config().IdleTimeout, "lifetime", sessions.Config().Lifetime, "CSRF", sessions.Config().CSRF)

	_, err = session.New(memstore.New(), session.Config{Policy: policy.AAL2, Lifetime: 30 * time.Hour})
	fmt.Println(err)
	// Output:
	// idle 1h0m0s lifetime 24h0m0s CSRF true
	// session: Config.Lifetime is 30h0m0s, over 24h0m0s: AAL2 (NIST SP 800-63B-4, 2.2.3)
}
