package redistest

import (
	"crypto/rand"
	"fmt"
)

// Options say which server to start, and how. The zero Options are a server with no persistence,
// TLS or users.
type Options struct {
	// Server is the program. Default: what [Default] returns.
	Server Server

	// Config holds lines for the configuration file, such as "appendonly yes". They come after the
	// package's own, so they win. With Sentinel they go to the servers that hold data, not to the
	// sentinels.
	Config []string

	// TLS makes the servers speak TLS, and nothing else, on their port and to each other.
	// [Node.TLSConfig] is what a client needs. A client's certificate is checked if it sends one;
	// the line "tls-auth-clients yes" demands it.
	TLS bool

	// Users are access control rules, one a user, such as "app on >secret ~* &* +@all". The default
	// user may do anything without a password unless the line "default off" is among them. With
	// Sentinel they are the users of the servers that hold data; the sentinels ask for no password.
	Users []string
}

// adminUser is the user that the package adds to Users, for its own connections and for
// replication.
const adminUser = "redistest"

// kit is what the servers of one topology share.
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
