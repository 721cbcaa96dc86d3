package redisstore

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/redis/rueidis"
)

// Options configure a store. The zero Options are good for production.
type Options struct {
	// Namespace begins every key. It has 1 to 64 of the bytes a-z A-Z 0-9 . _ -
	// Default: "coatcheck".
	Namespace string

	// Timeout bounds one operation, with its repetitions. An earlier deadline of the context wins.
	// Default: 2s, and 4s with Fsync.
	Timeout time.Duration

	// TLS is for rediss:// and the other schemes with TLS. Default: the system's roots and the
	// host's name.
	TLS *tls.Config

	// Client changes how the clients that Open makes connect. The store keeps its near cache. Open
	// calls Client once. Open refuses changes of other fields than these:
	//
	//   - AuthCredentialsFn, Username and Password, for the servers. The client calls the function
	//     for each new connection, also concurrently, and waits for Dialer.Timeout at most. What
	//     sentinels require is in the URL.
	//   - DialCtxFn, Dialer and TLSConfig, for servers and sentinels. DialCtxFn is not nil, so it
	//     can be wrapped. It is called concurrently. The scheme says whether to use TLS.
	//   - ClientName.
	//
	// Default: nil.
	Client func(*rueidis.ClientOption)

	// NearCache bounds the bytes of records that this process keeps. Negative: none.
	// Default: 64 MiB.
	NearCache int

	// MaxAge bounds the age of a copy in the near cache. Default: 5min.
	MaxAge time.Duration

	// Lease is how long the near cache serves copies without an answer from every primary.
	// Default: 2s.
	Lease time.Duration

	// Replicas is how many replicas an end waits for. If fewer answer within ReplicaTimeout, the
	// end is done, and the error is a [ReplicaError]. Replicas that answered can still lose the end
	// if another replica is promoted: see docs/design.md. Default: 0.
	Replicas int

	// ReplicaTimeout bounds that wait. It must be less than Timeout. Default: 500ms or half of
	// Timeout, the smaller. With Fsync: 3s or three quarters of Timeout.
	ReplicaTimeout time.Duration

	// Fsync makes an end wait until the primary and the replicas have written it to their disks. It
	// needs Replicas, WAITAOF (Redis or Valkey 7.2) and an append-only file.
	//
	// A replica reports its disk once a second. So an end takes up to 1s with appendfsync always,
	// and up to 2.1s with everysec. Set session.Config.CommitTimeout to more than that, say 5s.
	Fsync bool

	// Events is how many events the feed keeps, for session.Manager.Events. Each sign-in and each
	// end then costs one more write. Set the same number on all nodes; 10,000 suits most services.
	// Default: 0, this node publishes no events. It can still follow.
	Events int

	// Logger never gets a token. Default: slog.Default().
	Logger *slog.Logger
}

const maxEvents = 1_000_000

var namespacePattern = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`)

// checked returns the options with defaults filled in, or an error that names the wrong one.
func (o Options) checked() (Options, error) {
	if o.Namespace == "" {
		o.Namespace = "coatcheck"
	}
	if !namespacePattern.MatchString(o.Namespace) {
		return o, fmt.Errorf("redisstore: Options.Namespace is %.80q: use 1 to 64 of the bytes a-z A-Z 0-9 . _ -", o.Namespace)
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
		if o.Fsync {
			o.Timeout = 4 * time.Second
		}
	}
	wait := min(500*time.Millisecond, o.Timeout/2)
	if o.Fsync {
		wait = min(3*time.Second, o.Timeout*3/4)
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"Timeout", &o.Timeout, 0},
		{"MaxAge", &o.MaxAge, 5 * time.Minute},
		{"Lease", &o.Lease, 2 * time.Second},
		{"ReplicaTimeout", &o.ReplicaTimeout, max(wait, 10*time.Millisecond)},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
		if *d.value < 10*time.Millisecond {
			return o, fmt.Errorf("redisstore: Options.%s is %v: use at least 10ms, or 0 for the default", d.name, *d.value)
		}
	}
	if o.Replicas > 0 && o.ReplicaTimeout >= o.Timeout {
		return o, fmt.Errorf("redisstore: Options.ReplicaTimeout is %v: it must be less than Options.Timeout, %v",
			o.ReplicaTimeout, o.Timeout)
	}
	if o.NearCache == 0 {
		o.NearCache = 64 << 20
	}
	if o.Replicas < 0 {
		return o, fmt.Errorf("redisstore: Options.Replicas is %d: it must not be negative", o.Replicas)
	}
	if o.Fsync && o.Replicas == 0 {
		return o, fmt.Errorf("redisstore: Options.Fsync needs Options.Replicas")
	}
	if o.Events < 0 || o.Events > maxEvents {
		return o, fmt.Errorf("redisstore: Options.Events is %d: use 1 to %d, or 0 for none", o.Events, maxEvents)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}
