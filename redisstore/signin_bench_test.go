//go:build unix

package redisstore_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// BenchmarkSignIn signs in. Each user signs in once. The variants have no session before, or an
// anonymous one, and no limit on a user's sessions, or one. Besides the time it reports:
//
//   - "client-µs": processor time of this process, with that for creating the anonymous session;
//   - "server-µs": processor time of the server, the same;
//   - "script-µs": time that the server spends in scripts.
func BenchmarkSignIn(b *testing.B) {
	for _, v := range []struct {
		name      string
		anonymous bool
		limit     int
	}{{"plain", false, 0}, {"anonymous", true, 0}, {"limit", false, 5}, {"anonymous, limit", true, 5}} {
		b.Run(v.name, func(b *testing.B) {
			node := redistest.Start(b, redistest.Options{})
			s := mustOpen(b, "redis://"+node.Addr(), redisstore.Options{})
			from := make([]*driver.Credential, b.N)
			for i := range from {
				if v.anonymous {
					id, o := newSession()
					_, err := s.Create(b.Context(), id, o, &driver.Change{Verifier: o.Verifier})
					must(b, err)
					from[i] = &driver.Credential{ID: id, Verifier: o.Verifier}
				}
			}
			client, server, scripts := clientTime(b), serverTime(b, node), scriptTime(b, node)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				id, in := newSignIn(fmt.Sprint("user", i), v.limit)
				in.From = from[i]
				_, err := s.SignIn(b.Context(), id, in)
				must(b, err)
			}
			b.StopTimer()
			n := float64(b.N)
			b.ReportMetric(float64((clientTime(b)-client).Microseconds())/n, "client-µs")
			b.ReportMetric(float64((serverTime(b, node)-server).Microseconds())/n, "server-µs")
			b.ReportMetric(float64((scriptTime(b, node)-scripts).Microseconds())/n, "script-µs")
		})
	}
}

// clientTime returns the processor time of this process.
func clientTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// scriptTime returns how long a server ran scripts.
func scriptTime(b *testing.B, node *redistest.Node) time.Duration {
	b.Helper()
	return infoSum(b, node, "commandstats", `cmdstat_eval(?:sha)?:calls=\d+,usec=(\d+)`, time.Microsecond)
}
