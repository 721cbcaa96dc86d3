package redisstore

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"regexp"
	"time"
)

// Options say how the store behaves. The zero Options are good for production.
type Options struct {
	Namespace string        // begins every key; 1 to 64 of a-z A-Z 0-9 . _ -; default "coatcheck"
	Timeout   time.Duration // of one operation, repetitions included; default 2s, with Fsync 4s. A shorter deadline of the context wins
	TLS       *tls.Config   // for rediss:// and the like; default: the system's roots and the host's name

	NearCache int           // bytes of records kept in this process; default 64 MiB; negative: none
	MaxAge    time.Duration // how long a copy is kept at most; default 5 min
	Lease     time.Duration // how long a copy is trusted without a sign of life from the primaries; default 2s

	// Replicas is how many replicas an end waits for, ReplicaTimeout how long: less than Timeout, default 500ms or half of Timeout, with Fsync
	// 3s or three quarters of it. The end is done in any case; the error says how many answered, see [ReplicaError]. Replicas that answered
	// can still lose it if another one is promoted: see docs/design.md.
	Replicas       int
	ReplicaTimeout time.Duration

	// Fsync, with Replicas, has them and the primary write it to their disks (WAITAOF: Redis or Valkey 7.2, AOF on). A replica tells what
	// is on its disk once a second, so an end takes up to 1s with appendfsync always, up to 2.1s with everysec: session.Config.CommitTimeout
	// has to leave room for that, say 5s.
	Fsync bool

	// Events is how many events the feed keeps, for session.Manager.Events: a write with each sign-in and each end. It must be the same on all
	// nodes; 10,000 suits most. Default 0: this node publishes none, though it can follow.
	Events int

	Logger *slog.Logger // default slog.Default(). It never gets a token
}

const maxEvents = 1_000_000

var namespacePattern = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`)

func (o Options) checked() (Options, error) {
	if o.Namespace == "" {
		o.Namespace = "coatcheck"
	}
	if !namespacePattern.MatchString(o.Namespace) {
		return o, fmt.Errorf("redisstore: Options.Namespace %.80q: it has 1 to 64 of the bytes a-z A-Z 0-9 . _ -", o.Namespace)
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
		name string
		d    *time.Duration
		def  time.Duration
	}{
		{"Timeout", &o.Timeout, 0},
		{"MaxAge", &o.MaxAge, 5 * time.Minute},
		{"Lease", &o.Lease, 2 * time.Second},
		{"ReplicaTimeout", &o.ReplicaTimeout, max(wait, 10*time.Millisecond)},
	} {
		if *d.d == 0 {
			*d.d = d.def
		}
		if *d.d < 10*time.Millisecond {
			return o, fmt.Errorf("redisstore: Options.%s is %v: the least is 10ms, and 0 is the default", d.name, *d.d)
		}
	}
	if o.Replicas > 0 && o.ReplicaTimeout >= o.Timeout {
		return o, fmt.Errorf("redisstore: Options.ReplicaTimeout is %v: it must be less than Options.Timeout, %v", o.ReplicaTimeout, o.Timeout)
	}
	if o.NearCache == 0 {
		o.NearCache = 64 << 20
	}
	if o.Replicas < 0 {
		return o, fmt.Errorf("redisstore: Options.Replicas is %d", o.Replicas)
	}
	if o.Fsync && o.Replicas == 0 {
		return o, fmt.Errorf("redisstore: Options.Fsync needs Options.Replicas")
	}
	if o.Events < 0 || o.Events > maxEvents {
		return o, fmt.Errorf("redisstore: Options.Events is %d: it is 1 to %d, and 0 for none", o.Events, maxEvents)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}
