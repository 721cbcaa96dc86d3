package demo_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/coatcheck/internal/demo"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

const (
	firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	iPhone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
		"Version/18.5 Mobile/15E148 Safari/604.1"
)

// submit posts the sign-in form, as the page and curl do. more lists headers as names and values.
func (v *visitor) submit(t *testing.T, name string, more ...string) *http.Response {
	t.Helper()
	form := url.Values{"name": {name}}.Encode()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/sign-in", strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	for i := 0; i < len(more); i += 2 {
		r.Header.Set(more[i], more[i+1])
	}
	w := httptest.NewRecorder()
	v.app.handler.ServeHTTP(w, r)
	return w.Result()
}

// mustSignIn returns a visitor who has signed in with a browser of this User-Agent.
func mustSignIn(t *testing.T, a *app, name, userAgent string) *visitor {
	t.Helper()
	v := &visitor{app: a}
	resp := v.submit(t, name, "User-Agent", userAgent)
	mustEqual(t, "signing in", mustReadBody(t, resp), "signed in as "+name+", with a new token\n")
	if v.keep(resp); v.cookie == "" {
		t.Fatal("the sign-in set no cookie")
	}
	return v
}

type listed struct {
	User    string
	Devices []listedDevice
}

type listedDevice struct {
	Handle, Device string
	Created, Seen  time.Time
	This           bool
}

// mustListDevices returns the response to GET /devices.
func mustListDevices(t *testing.T, v *visitor) (l listed) {
	t.Helper()
	resp := v.send(t.Context(), "GET", "/devices")
	if got := mustReadBody(t, resp); resp.StatusCode != 200 || json.Unmarshal([]byte(got), &l) != nil {
		t.Fatalf("GET /devices: %d %q", resp.StatusCode, got)
	}
	return l
}

// mustBeSignedOut checks that nobody is signed in with v's cookie.
func mustBeSignedOut(t *testing.T, who string, v *visitor) {
	t.Helper()
	resp := v.send(t.Context(), "GET", "/devices")
	mustEqual(t, who+": status", resp.StatusCode, 401)
	mustEqual(t, who+": response", mustReadBody(t, resp), "Please sign in.\n")
	mustEqual(t, who+": session", mustGetSession(t, v).Handle, "")
}

// mustDeleteCookie checks that a response deletes one cookie and sets none.
func mustDeleteCookie(t *testing.T, resp *http.Response) {
	t.Helper()
	if cookies := resp.Cookies(); len(cookies) != 1 || cookies[0].MaxAge >= 0 {
		t.Errorf("cookies: got %v, want one deletion", cookies)
	}
}

func TestDevicesAreListedNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := mustNewApp(t)
		began := time.Now()
		laptop := mustSignIn(t, a, "Ann", firefox)
		time.Sleep(time.Hour)
		phone := mustSignIn(t, a, "Ann", iPhone)
		mustSignIn(t, a, "Bob", firefox)

		l := mustListDevices(t, laptop)
		mustEqual(t, "user", l.User, "Ann")
		mustEqual(t, "devices", len(l.Devices), 2)
		mustEqual(t, "newest", l.Devices[0].Device, "Safari on iPhone")
		mustEqual(t, "oldest", l.Devices[1].Device, "Firefox on Linux")
		mustEqual(t, "newest is this one", l.Devices[0].This, false)
		mustEqual(t, "oldest is this one", l.Devices[1].This, true)
		mustEqual(t, "handle of this one", l.Devices[1].Handle, mustGetSession(t, laptop).Handle)
		mustEqual(t, "oldest created", l.Devices[1].Created.Equal(began), true)
		mustEqual(t, "newest seen", l.Devices[0].Seen.Equal(began.Add(time.Hour)), true)
		mustEqual(t, "for the phone, newest is this one", mustListDevices(t, phone).Devices[0].This, true)
	})
}

func TestSignInKeepsOnlyTheCount(t *testing.T) {
	v := mustVisit(t, mustNewApp(t))
	v.send(t.Context(), "POST", "/lab/add")
	v.send(t.Context(), "POST", "/lab/slow?ms=0")
	if s := mustGetSession(t, v); s.Count != 2 || s.Slow == nil {
		t.Fatalf("before the sign-in: got %+v, want a count of 2 and lab.slow", s)
	}
	before := *v
	resp := v.submit(t, "Ann")
	if v.keep(resp); v.cookie == before.cookie {
		t.Fatal("the sign-in did not change the token")
	}
	s := mustGetSession(t, v)
	mustEqual(t, "count", s.Count, 2)
	if s.Slow != nil {
		t.Errorf("the sign-in kept lab.slow: %+v", s.Slow)
	}
	mustEqual(t, "handle for the old token", mustGetSession(t, &before).Handle, "")
	mustEqual(t, "the next visit", mustReadBody(t, v.send(t.Context(), "GET", "/")), "Hello World #2\n")
}

// TestFixation plants the attacker's cookie in the victim's browser before the victim signs in.
// After the sign-in, the attacker's cookie is useless.
func TestFixation(t *testing.T) {
	a := mustNewApp(t)
	attacker := mustVisit(t, a)
	victim := &visitor{app: a, cookie: attacker.cookie}
	victim.keep(victim.submit(t, "Ann"))
	mustEqual(t, "the victim", mustListDevices(t, victim).User, "Ann")
	mustBeSignedOut(t, "the attacker", attacker)
}

func TestSignOutOneDevice(t *testing.T) {
	a := mustNewApp(t)
	laptop, phone := mustSignIn(t, a, "Ann", firefox), mustSignIn(t, a, "Ann", iPhone)
	bob := mustSignIn(t, a, "Bob", firefox)
	path := "/devices/" + mustGetSession(t, phone).Handle + "/sign-out"

	mustEqual(t, "status for another user", bob.send(t.Context(), "POST", path).StatusCode, 404)
	mustEqual(t, "user of the phone after that", mustListDevices(t, phone).User, "Ann")

	resp := laptop.send(t.Context(), "POST", path)
	mustEqual(t, "response", mustReadBody(t, resp), "signed out "+strings.Split(path, "/")[2]+"\n")
	mustBeSignedOut(t, "the phone", phone)
	mustEqual(t, "the laptop's devices", len(mustListDevices(t, laptop).Devices), 1)

	resp = laptop.send(t.Context(), "POST", path)
	mustEqual(t, "status of a second sign-out", resp.StatusCode, 404)
	mustEqual(t, "response to a second sign-out", mustReadBody(t, resp), "There is no such session.\n")

	resp = laptop.send(t.Context(), "POST", "/devices/"+mustGetSession(t, laptop).Handle+"/sign-out")
	mustEqual(t, "response for this device", mustReadBody(t, resp), "signed out\n")
	mustDeleteCookie(t, resp)
	mustBeSignedOut(t, "the laptop", laptop)
	mustEqual(t, "Bob", mustListDevices(t, bob).User, "Bob")
}

func TestSignOutOtherDevicesAndAll(t *testing.T) {
	a := mustNewApp(t)
	laptop, phone := mustSignIn(t, a, "Ann", firefox), mustSignIn(t, a, "Ann", iPhone)
	bob := mustSignIn(t, a, "Bob", firefox)
	resp := laptop.send(t.Context(), "POST", "/devices/others/sign-out")
	mustEqual(t, "others", mustReadBody(t, resp), "other devices signed out: 1\n")
	mustBeSignedOut(t, "the phone", phone)
	mustEqual(t, "the laptop's devices", len(mustListDevices(t, laptop).Devices), 1)

	phone = mustSignIn(t, a, "Ann", iPhone)
	resp = laptop.send(t.Context(), "POST", "/devices/all/sign-out")
	mustEqual(t, "all", mustReadBody(t, resp), "devices signed out, including this one: 2\n")
	mustDeleteCookie(t, resp)
	mustBeSignedOut(t, "the phone", phone)
	mustBeSignedOut(t, "the laptop", laptop)
	mustEqual(t, "Bob", mustListDevices(t, bob).User, "Bob")
}

func TestSixthSignInEndsTheOldestSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := mustNewApp(t)
		oldest := mustSignIn(t, a, "Ann", firefox)
		for range 4 {
			time.Sleep(time.Second)
			mustSignIn(t, a, "Ann", iPhone)
		}
		mustEqual(t, "devices", len(mustListDevices(t, oldest).Devices), 5)
		time.Sleep(time.Second)
		sixth := mustSignIn(t, a, "Ann", firefox)
		mustEqual(t, "devices", len(mustListDevices(t, sixth).Devices), 5)
		mustBeSignedOut(t, "the oldest", oldest)
	})
}

func TestSignInChecksTheName(t *testing.T) {
	a := mustNewApp(t)
	for _, c := range []struct {
		name   string
		status int
		says   string
	}{
		{"Ann", 200, "signed in as Ann"},
		{"  Ann Ö. 山田 🎟 ", 200, "signed in as Ann Ö. 山田 🎟"},
		{strings.Repeat("山", 40), 200, "signed in as"},
		{"", 400, "1 to 40 characters, not 0"},
		{" \t ", 400, "1 to 40 characters, not 0"},
		{strings.Repeat("x", 41), 400, "1 to 40 characters, not 41"},
		{strings.Repeat("x", 5000), 400, "1 to 40 characters"},
		{"Ann\x00", 400, "printable characters only"},
		{"Ann\nBob", 400, "printable characters only"},
		{"Ann\xff", 400, "printable characters only"},
	} {
		v := &visitor{app: a}
		resp := v.submit(t, c.name)
		mustEqual(t, fmt.Sprintf("status for %.20q", c.name), resp.StatusCode, c.status)
		if got := mustReadBody(t, resp); !strings.Contains(got, c.says) {
			t.Errorf("response for %.20q: got %q, want it to contain %q", c.name, got, c.says)
		}
		cookies := map[int]int{200: 1, 400: 0}[c.status]
		mustEqual(t, fmt.Sprintf("cookies for %.20q", c.name), len(resp.Cookies()), cookies)
	}
}

// TestDevicesNeedAUser checks requests of a visitor without a session and of an anonymous visitor.
// A script gets the status 401, a browser is redirected to the page.
func TestDevicesNeedAUser(t *testing.T) {
	a := mustNewApp(t)
	known := mustVisit(t, a)
	for _, v := range []*visitor{known, {app: a}} {
		mustEqual(t, "GET /devices", v.send(t.Context(), "GET", "/devices").StatusCode, 401)
		for _, path := range []string{
			"/devices/others/sign-out", "/devices/all/sign-out", "/devices/0000-AAAAAAAAAAAAAAAAAAAAAA/sign-out",
		} {
			resp := v.send(t.Context(), "POST", path)
			mustEqual(t, path, resp.StatusCode, 401)
			mustEqual(t, path, mustReadBody(t, resp), "Please sign in.\n")
			mustEqual(t, path+" in a browser", v.send(t.Context(), "POST", path, "Accept", "text/html").StatusCode, 303)
		}
	}
	v := mustSignIn(t, a, "Ann", firefox)
	for _, handle := range []string{"0000-AAAAAAAAAAAAAAAAAAAAAA", "nothing", "%00", strings.Repeat("x", 5000)} {
		resp := v.send(t.Context(), "POST", "/devices/"+handle+"/sign-out")
		mustEqual(t, fmt.Sprintf("status for handle %.30q", handle), resp.StatusCode, 404)
	}
	for _, c := range [][2]string{{"POST", "/devices"}, {"GET", "/sign-in"}, {"GET", "/devices/all/sign-out"}} {
		mustEqual(t, c[0]+" "+c[1], v.send(t.Context(), c[0], c[1]).StatusCode, 405)
	}
	mustEqual(t, "Ann's devices after the refused requests", len(mustListDevices(t, v).Devices), 1)
}

// TestOtherSitesCannotSignInOrOut checks that a request from another site can neither sign a
// visitor in nor sign a device out.
func TestOtherSitesCannotSignInOrOut(t *testing.T) {
	a := mustNewApp(t)
	v, other := mustSignIn(t, a, "Ann", firefox), mustSignIn(t, a, "Ann", iPhone)
	one := "/devices/" + mustGetSession(t, other).Handle + "/sign-out"
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
	} {
		for _, path := range []string{"/devices/others/sign-out", "/devices/all/sign-out", one} {
			mustEqual(t, fmt.Sprint(path, header), v.send(t.Context(), "POST", path, header...).StatusCode, 403)
		}
		for _, v := range []*visitor{v, {app: a}} {
			resp := v.submit(t, "Mallory", header...)
			mustEqual(t, fmt.Sprint("sign-in ", header), resp.StatusCode, 403)
			mustEqual(t, fmt.Sprint("cookies of sign-in ", header), len(resp.Cookies()), 0)
		}
	}
	mustEqual(t, "devices after the refused requests", len(mustListDevices(t, v).Devices), 2)
}

// TestPageShowsDevicesAndOneNotice checks that the page lists the devices, shows a notice once, and
// escapes the user's name.
func TestPageShowsDevicesAndOneNotice(t *testing.T) {
	a := mustNewApp(t)
	v := &visitor{app: a}
	resp := v.submit(t, "<b>Ann</b>", "Accept", "text/html", "User-Agent", firefox)
	mustEqual(t, "status", resp.StatusCode, 303)
	mustEqual(t, "location", resp.Header.Get("Location"), "/account")
	v.keep(resp)
	page := mustReadBody(t, v.send(t.Context(), "GET", "/account"))
	for _, want := range []string{"signed in as &lt;b&gt;Ann", "Firefox on Linux", "this device", "at most 5 devices"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not contain %q", want)
		}
	}
	if strings.Contains(page, "<b>Ann") {
		t.Error("the page does not escape the name")
	}
	page = mustReadBody(t, v.send(t.Context(), "GET", "/account"))
	if strings.Contains(page, "signed in as &lt;") {
		t.Error("the page shows the notice twice")
	}
	resp = v.send(t.Context(), "POST", "/devices/all/sign-out", "Accept", "text/html")
	v.keep(resp)
	page = mustReadBody(t, v.send(t.Context(), "GET", "/account"))
	if !strings.Contains(page, "devices signed out, including this one: 1") ||
		!strings.Contains(page, "there is no password") {
		t.Error("after signing out everywhere, the page does not show the notice and the sign-in form")
	}
}

// TestDeviceLogHasNoToken checks that the log lines name the user and the device, and have no
// token.
func TestDeviceLogHasNoToken(t *testing.T) {
	a := mustNewApp(t)
	v, other := mustSignIn(t, a, "Ann", firefox), mustSignIn(t, a, "Ann", iPhone)
	handle := mustGetSession(t, other).Handle
	v.send(t.Context(), "POST", "/devices/"+handle+"/sign-out")
	v.send(t.Context(), "POST", "/devices/others/sign-out")
	v.send(t.Context(), "POST", "/devices/all/sign-out")
	log := a.log.String()
	for _, want := range []string{
		`msg="signed in" user=Ann session=` + handle, `msg="signed out a device" device=` + handle,
		`msg="signed out the other devices" devices=0`, `msg="signed out all devices" devices=1`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	for _, cookie := range []string{v.cookie, other.cookie} {
		if _, token, _ := strings.Cut(cookie, "="); strings.Contains(log, token[len(token)-20:]) {
			t.Errorf("the log has a token: %s", log)
		}
	}
}

// TestStoreWithoutUsersOffersNoSignIn checks that the page says that nobody can sign in, and that
// the rest of the demo works.
func TestStoreWithoutUsersOffersNoSignIn(t *testing.T) {
	store := memstore.New()
	t.Cleanup(func() { store.Close() })
	h, _, err := demo.New(t.Context(), struct{ driver.Store }{store}, session.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	v := mustVisit(t, &app{handler: h})
	resp := v.send(t.Context(), "GET", "/account")
	mustEqual(t, "status of the page", resp.StatusCode, 200)
	page := mustReadBody(t, resp)
	if !strings.Contains(page, "Nobody can sign in here") || strings.Contains(page, `action="/sign-in"`) {
		t.Error("the page does not say that nobody can sign in, or has a sign-in form")
	}
	resp = v.submit(t, "Ann")
	mustEqual(t, "status of a sign-in", resp.StatusCode, 501)
	mustEqual(t, "response to a sign-in", mustReadBody(t, resp),
		"This store does not support users, so nobody can sign in.\n")
	mustEqual(t, "GET /devices", v.send(t.Context(), "GET", "/devices").StatusCode, 401)
	mustEqual(t, "a visit", mustReadBody(t, v.send(t.Context(), "GET", "/")), "Hello World #1\n")
}

func TestDeviceLabelFollowsTheUserAgent(t *testing.T) {
	a := mustNewApp(t)
	const (
		chrome = "AppleWebKit/537.36 (KHTML, like Gecko) "
		safari = "AppleWebKit/605.1.15 (KHTML, like Gecko) "
	)
	for _, c := range []struct{ userAgent, label string }{
		{"", "Unknown device"},
		{"lwp-request/6", "Unknown device"},
		{"curl/8.14.1", "curl"},
		{firefox, "Firefox on Linux"},
		{iPhone, "Safari on iPhone"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + chrome + "Chrome/140.0.0.0 Safari/537.36", "Chrome on Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + chrome + "Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0", "Edge on Windows"},
		{"Mozilla/5.0 (X11; Linux x86_64) " + chrome + "Chrome/140.0.0.0 Safari/537.36 OPR/124.0.0.0", "Opera on Linux"},
		{"Mozilla/5.0 (Linux; Android 10; K) " + chrome + "Chrome/140.0.0.0 Mobile Safari/537.36", "Chrome on Android"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) " + safari + "Version/18.5 Safari/605.1.15", "Safari on Mac"},
		{"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) " + safari + "CriOS/140.0 Mobile/15E148 Safari/604.1", "Chrome on iPad"},
		{"Mozilla/5.0 (X11; CrOS x86_64 16328.0) " + chrome + "Chrome/140.0.0.0 Safari/537.36", "Chrome on ChromeOS"},
		{"Something else (Linux)", "Linux"},
	} {
		devices := mustListDevices(t, mustSignIn(t, a, "Ann", c.userAgent)).Devices
		i := slices.IndexFunc(devices, func(d listedDevice) bool { return d.This })
		mustEqual(t, c.userAgent, devices[i].Device, c.label)
	}
}
