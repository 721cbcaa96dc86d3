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
		Short: "Serve a small site: races to try, a sign-in, a shop and a game",
		Long: `Serve a small site that shows what sessions can do:

  - a counter of your visits;
  - 50 increments at the same time: none is lost;
  - a sign-out during a slow request: the session stays ended;
  - a sign-in without a password, and the devices of the user: one signs out
    the other;
  - a shop: several tabs and devices fill one cart;
  - a game: players in several browsers, at several processes, on one board.

Each page shows the Go code that serves it. For curl, the same address is a
counter.

Where the sessions are stored:

  file:DIR                 a directory, for one process; survives kill -9
  memory:                  the memory of this process; lost when it ends
  redis://HOST             Redis or Valkey, shared by any number of processes

The URLs for Redis and Valkey:

` + redisHelp + `

In a user name or password, write %25 for %, %40 for @, %3A for : and %3F for ?.
Options follow a question mark, such as redis://HOST?timeout=1s&near_cache=0. An
unknown option is an error that lists all options.

Ctrl-C stops the demo as soon as the running requests are done. A second Ctrl-C
stops it at once.`,
		Example: `  coatcheck demo                                   then open http://127.0.0.1:5000/
  coatcheck demo --addr 127.0.0.1:5001             if port 5000 is in use
  coatcheck demo --store memory:                   sessions end with the process
  coatcheck demo --store redis://localhost         sessions on Redis: start a second demo with another --addr
  coatcheck demo --policy aal2                     apply NIST's AAL2: posts need a CSRF token
  coatcheck demo --insecure-http                   for Safari
  coatcheck demo --insecure-http --addr :5000      for a phone on the local network`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.addr, "addr", "127.0.0.1:5000", "listen on `HOST:PORT`")
	flags.StringVar(&o.store, "store", "file:./coatcheck-data",
		"store sessions at `URL`: file:DIR, memory:, redis://HOST or another URL above")
	flags.BoolVar(&o.insecureHTTP, "insecure-http", false,
		"use a cookie that works over plain HTTP, in Safari and from other machines; never in production")
	flags.StringVar(&o.policy, "policy", "default",
		"apply `PRESET`: "+strings.Join(presetNames(), ", ")+"; 'coatcheck policy' prints each")
	return cmd
}

func (o *demoOptions) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	preset, err := presetOf(o.policy)
	if err != nil {
		return usagef("--policy: %v", err)
	}
	if preset.policy != nil && o.insecureHTTP {
		return usagef("--insecure-http cannot be used with --policy %s, which forbids a cookie over plain HTTP",
			preset.name)
	}
	ln, err := listen(ctx, o.addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	slog.SetDefault(log) // of the store, too
	store, err := openStore(ctx, o.store)
	if err != nil {
		return err
	}
	defer func() {
		if closing := store.Close(); err == nil {
			err = closing
		}
	}()
	ctx, stop := interruptible(ctx)
	defer stop()
	app, wait, err := demo.New(ctx, store, session.Config{
		Policy: preset.policy,
		Cookie: session.Cookie{Insecure: o.insecureHTTP},
		Logger: log,
	})
	if err != nil {
		return err
	}
	o.welcome(stdout, ln.Addr().(*net.TCPAddr), preset)
	err = serve(ctx, stop, ln, app, log)
	stop()
	wait()
	return err
}

// welcome prints the address of the page, and commands to try.
func (o *demoOptions) welcome(w io.Writer, addr *net.TCPAddr, p preset) {
	local := *addr
	if addr.IP.IsUnspecified() {
		local.IP = net.IPv4(127, 0, 0, 1)
	}
	url := "http://" + local.String()
	fmt.Fprintf(w, `Coatcheck demo. Sessions are stored in %s

Open it in a browser:

  %[2]s/

Count visits, one session for each cookie jar:

  curl -b jar -c jar %[2]s/

Send 400 increments, 16 at a time, then print the count:

  seq 400 | xargs -P 16 -I{} curl -s -b jar -X POST %[2]s/lab/add >answers
  curl -b jar %[2]s/session

Sign out during a slow request, then try the old cookie:

  cp jar old
  curl -b old -X POST '%[2]s/lab/slow?ms=2000' &
  sleep 1; curl -b jar -c jar -X POST %[2]s/sign-out; wait
  curl -b old %[2]s/session

Sign in a made-up user on two devices, list the devices, and sign out the other one:

  curl -b phone -c phone -d name=Ann %[2]s/sign-in
  curl -b laptop -c laptop -d name=Ann %[2]s/sign-in
  curl -b laptop %[2]s/devices
  curl -b laptop -X POST %[2]s/devices/others/sign-out
  curl -b phone %[2]s/devices

Press Ctrl-C to stop.

`, shown(o.store), url)
	if p.policy != nil {
		fmt.Fprintf(w, `Under --policy %s, a post with a session cookie needs the CSRF token of the session:

  csrf=$(curl -s -b jar %[2]s/session | grep -o '[^"]*"}$' | cut -d'"' -f1)
  curl -b jar -H "X-CSRF-Token: $csrf" -X POST %[2]s/lab/add

`, p.name, url)
	}
	if !addr.IP.IsLoopback() && !o.insecureHTTP {
		fmt.Fprint(w, "Browsers on other machines do not store the cookie over plain HTTP. "+
			"For these, add --insecure-http.\n\n")
	}
}
