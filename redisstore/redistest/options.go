package redistest

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"
)

// Options select and configure the servers. The zero Options start a server without persistence,
// TLS or users.
type Options struct {
	// Server is the server program. Default: the result of [Default].
	Server Server

	// Config holds lines for the configuration file, such as "appendonly yes". They override the
	// package's own lines. With Sentinel they apply to the servers that hold data, not to the
	// sentinels. Default: none.
	Config []string

	// TLS restricts the servers to TLS, on their port and among each other. A client connects with
	// [Node.TLSConfig]. The server verifies a client's certificate if the client sends one. To
	// require it, add the line "tls-auth-clients yes" to Config. Default: no TLS.
	TLS bool

	// Users are ACL rules, one for each user, such as "app on >secret ~* &* +@all". To disable the
	// default user, add the rule "default off": otherwise that user has all rights and needs no
	// password. With Sentinel the rules apply to the servers that hold data, and the sentinels
	// require no password. Default: no rules.
	Users []string

	// DownAfter is how long a primary may be silent until a replica replaces it, in a Sentinel or a
	// Cluster. If the whole machine stalls for longer, a healthy primary may be replaced. So set it
	// to an hour in a test that kills no primary. Default: 1s with Sentinel, 1.5s in a Cluster.
	DownAfter time.Duration
}

// downAfter returns DownAfter in milliseconds, as the servers' settings need it.
func (o *Options) downAfter(def time.Duration) string {
	return strconv.FormatInt(cmp.Or(o.DownAfter, def).Milliseconds(), 10)
}

// adminUser is a user with all rights that the package adds to Users. The package and replication
// use it.
const adminUser = "redistest"

// kit is what the servers of one topology have in common.
type kit struct {
	Options
	password string       // of adminUser; empty without Users
	cert     *certificate // nil without TLS
}

func newKit(o Options) (*kit, error) {
	k := &kit{Options: o}
	var err error
	if len(k.Server.Argv) == 0 {
		if k.Server, err = Default(); err != nil {
			return nil, err
		}
	}
	if len(k.Users) > 0 {
		k.password = rand.Text()
	}
	if k.TLS {
		if k.cert, err = newCertificate(); err != nil {
			return nil, fmt.Errorf("redistest: make a certificate: %w", err)
		}
	}
	return k, nil
}
