package redisstore_test

import (
	"context"
	"log"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/redisstore"
)

// newToken stands for the library of a cloud provider that makes IAM tokens.
func newToken() (token string, expires time.Time, err error) {
	return "token", time.Now().Add(15 * time.Minute), nil
}

// Connections authenticate with tokens that expire. The client sends a new token a minute before.
func ExampleOptions_client() {
	ctx := context.Background()

	store, err := redisstore.Open(ctx, "rediss+cluster://cache.example:6379", redisstore.Options{
		Client: func(o *rueidis.ClientOption) {
			o.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
				token, expires, err := newToken()
				return rueidis.AuthCredentials{
					Username: "sessions", Password: token, RefreshAfter: expires.Add(-time.Minute),
				}, err
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
}
