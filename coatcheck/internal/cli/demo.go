package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/coatcheck-go/session"
	"github.com/spf13/cobra"

	"github.com/coatcheck-go/session/coatcheck/internal/demo"
)

type demoOptions struct {
	addr         string
	store        string
	insecureHTTP bool
	policy       string
}

func newDemo() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve a web page with a session, two races to try, and a sign-in",
		Long: `Serve a web page with a session, and two races to try: 50 increments at once, of
which none is lost, and a sign-out during a slow request, after which the session
stays ended. Sign in as a made-up user, with no password, see where else that user
is signed in, and sign out one device, the others, or all. To curl the same address
is a counter. Sessions survive a restart, kill -9 included.

They are in a directory, for one process, in memory, or on Redis or Valkey, where
any number of demos share them:

` + redisHelp + `

A user or password has %25 for %, %40 for @, %3A for : and %3F for ?.

Ctrl-C stops it when the requests under way are done; a second one ends it at once.`,
		Example: `  coatcheck demo                                   then open http://127.0.0.1:5000/
  coatcheck demo --addr 127.0.0.1:5001             if something else has port 5000
  coatcheck demo --store memory:                   sessions that end with the process
  coatcheck demo --store redis://localhost         sessions on Redis: start a second one with another --addr
  coatcheck demo --policy aal2                     what NIST's AAL2 asks for, forms with CSRF tokens among it
  coatcheck demo --insecure-http                   for Safari
  coatcheck demo --insecure-http --addr :5000      for a phone on the local network`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&o.addr, "addr", "127.0.0.1:5000", "listen on `HOST:PORT`")
	cmd.Flags().StringVar(&o.store, "store", "file:./coatcheck-data", "keep sessions in `URL`: file:DIR, memory:, redis://HOST or one of those above")
	cmd.Flags().BoolVar(&o.insecureHTTP, "insecure-http", false, "a cookie that works over plain http beyond this machine, and in Safari; never in production")
	cmd.Flags().StringVar(&o.policy, "policy", "default", "hold `PRESET`: "+strings.Join(presetNames(), ", ")+"; 'coatcheck policy' prints them")
	return cmd
}

func (o *demoOptions) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	preset, err := presetOf(o.policy)
	if err != nil {
		return usagef("--policy: %v", err)
	}
	if preset.policy != nil && o.insecureHTTP {
		return usagef("--insecure-http: --policy %s forbids a cookie over plain http", preset.name)
	}
	ln, err := listen(ctx, o.addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	store, err := openStore(ctx, o.store, log)
	if err != nil {
		return err
	}
	defer func() {
		if closing := store.Close(); err == nil {
			err = closing
		}
	}()
	app, err := demo.New(store, session.Config{Policy: preset.policy, Cookie: session.Cookie{Insecure: o.insecureHTTP}, Logger: log})
	if err != nil {
		return err
	}
	o.welcome(stdout, ln.Addr().(*net.TCPAddr), preset)
	return serve(ctx, ln, app, log)
}

// welcome says what to open and what to try.
func (o *demoOptions) welcome(w io.Writer, addr *net.TCPAddr, p preset) {
	local := *addr
	if addr.IP.IsUnspecified() {
		local.IP = net.IPv4(127, 0, 0, 1)
	}
	url := "http://" + local.String()
	fmt.Fprintf(w, `Coatcheck demo. Sessions are in %s

Open it in a browser:

  %[2]s/

Count visits, one session for each cookie jar:

  curl -b jar -c jar %[2]s/

400 increments, 16 at a time, and the count after them:

  seq 400 | xargs -P 16 -I{} curl -s -b jar -X POST %[2]s/lab/add >answers
  curl -b jar %[2]s/session

Sign out during a slow request, and try the old cookie:

  cp jar old
  curl -b old -X POST '%[2]s/lab/slow?ms=2000' &
  sleep 1; curl -b jar -c jar -X POST %[2]s/sign-out; wait
  curl -b old %[2]s/session

Sign in a made-up user on two devices, list them, and sign out the other:

  curl -b phone -c phone -d name=Ann %[2]s/sign-in
  curl -b laptop -c laptop -d name=Ann %[2]s/sign-in
  curl -b laptop %[2]s/devices
  curl -b laptop -X POST %[2]s/devices/others/sign-out
  curl -b phone %[2]s/devices

Ctrl-C stops it.

`, shown(o.store), url)
	if p.policy != nil {
		fmt.Fprintf(w, `Under --policy %s what posts with a session's cookie needs its CSRF token:

  curl -b jar -H "X-CSRF-Token: $(curl -s -b jar %[2]s/session | grep -o '[^"]*"}$' | cut -d'"' -f1)" -X POST %[2]s/lab/add

`, p.name, url)
	}
	if !addr.IP.IsLoopback() && !o.insecureHTTP {
		fmt.Fprint(w, "Browsers on other machines will not keep the cookie over plain http: for them add --insecure-http.\n\n")
	}
}
