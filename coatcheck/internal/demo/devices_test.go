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
	iPhone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)

// submit posts the sign-in form, as the page or curl would. More are headers, by name and value.
func (v *visitor) submit(t *testing.T, name string, more ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/sign-in", strings.NewReader(url.Values{"name": {name}}.Encode()))
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

// enter is a visitor who signs in with a browser of this User-Agent.
func enter(t *testing.T, a *app, name, userAgent string) *visitor {
	t.Helper()
	v := &visitor{app: a}
	resp := v.submit(t, name, "User-Agent", userAgent)
	equal(t, "signing in", body(t, resp), "signed in as "+name+", under a new token\n")
	if v.keep(resp); v.cookie == "" {
		t.Fatal("signing in set no cookie")
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

// list is what GET /devices answers.
func list(t *testing.T, v *visitor) (l listed) {
	t.Helper()
	resp := v.send(t.Context(), "GET", "/devices")
	if got := body(t, resp); resp.StatusCode != 200 || json.Unmarshal([]byte(got), &l) != nil {
		t.Fatalf("GET /devices: %d %q", resp.StatusCode, got)
	}
	return l
}

// signedOut checks that v's cookie leads to nobody.
func signedOut(t *testing.T, who string, v *visitor) {
	t.Helper()
	resp := v.send(t.Context(), "GET", "/devices")
	equal(t, who+": status", resp.StatusCode, 401)
	equal(t, who+": answer", body(t, resp), "Please sign in.\n")
	equal(t, who+": session", shown(t, v).Handle, "")
}

func deletesCookie(t *testing.T, resp *http.Response) {
	t.Helper()
	if cookies := resp.Cookies(); len(cookies) != 1 || cookies[0].MaxAge >= 0 {
		t.Errorf("cookies: %v, want one that is deleted", cookies)
	}
}

func TestDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		began := time.Now()
		laptop := enter(t, a, "Ann", firefox)
		time.Sleep(time.Hour)
		phone := enter(t, a, "Ann", iPhone)
		enter(t, a, "Bob", firefox)

		l := list(t, laptop)
		equal(t, "user", l.User, "Ann")
		equal(t, "devices", len(l.Devices), 2)
		equal(t, "newest", l.Devices[0].Device, "Safari on iPhone")
		equal(t, "oldest", l.Devices[1].Device, "Firefox on Linux")
		equal(t, "newest is this one", l.Devices[0].This, false)
		equal(t, "oldest is this one", l.Devices[1].This, true)
		equal(t, "handle of this one", l.Devices[1].Handle, shown(t, laptop).Handle)
		equal(t, "oldest created", l.Devices[1].Created.Equal(began), true)
		equal(t, "newest seen", l.Devices[0].Seen.Equal(began.Add(time.Hour)), true)
		equal(t, "for the phone, newest is this one", list(t, phone).Devices[0].This, true)
	})
}

func TestSignInKeepsTheCountAlone(t *testing.T) {
	v := arrive(t, newApp(t))
	v.send(t.Context(), "POST", "/lab/add")
	v.send(t.Context(), "POST", "/lab/slow?ms=0")
	if s := shown(t, v); s.Count != 2 || s.Slow == nil {
		t.Fatalf("before: %+v, want a count of 2 and lab.slow", s)
	}
	before := *v
	resp := v.submit(t, "Ann")
	if v.keep(resp); v.cookie == before.cookie {
		t.Fatal("signing in did not change the token")
	}
	s := shown(t, v)
	equal(t, "count", s.Count, 2)
	if s.Slow != nil {
		t.Errorf("lab.slow came along: %+v", s.Slow)
	}
	equal(t, "the token from before", shown(t, &before).Handle, "")
	equal(t, "a next visit", body(t, v.send(t.Context(), "GET", "/")), "Hello World #2\n")
}

// TestFixation: who planted their own session's cookie before the sign-in has nothing in hand after it.
func TestFixation(t *testing.T) {
	a := newApp(t)
	attacker := arrive(t, a)
	victim := &visitor{app: a, cookie: attacker.cookie}
	victim.keep(victim.submit(t, "Ann"))
	equal(t, "the victim", list(t, victim).User, "Ann")
	signedOut(t, "the attacker", attacker)
}

func TestSignOutOne(t *testing.T) {
	a := newApp(t)
	laptop, phone, bob := enter(t, a, "Ann", firefox), enter(t, a, "Ann", iPhone), enter(t, a, "Bob", firefox)
	path := "/devices/" + shown(t, phone).Handle + "/sign-out"

	equal(t, "another user", bob.send(t.Context(), "POST", path).StatusCode, 404)
	equal(t, "the phone after that", list(t, phone).User, "Ann")

	resp := laptop.send(t.Context(), "POST", path)
	equal(t, "answer", body(t, resp), "signed out "+strings.Split(path, "/")[2]+"\n")
	signedOut(t, "the phone", phone)
	equal(t, "the laptop's devices", len(list(t, laptop).Devices), 1)

	resp = laptop.send(t.Context(), "POST", path)
	equal(t, "again", resp.StatusCode, 404)
	equal(t, "again, in words", body(t, resp), "There is no such session.\n")

	resp = laptop.send(t.Context(), "POST", "/devices/"+shown(t, laptop).Handle+"/sign-out")
	equal(t, "this one", body(t, resp), "signed out\n")
	deletesCookie(t, resp)
	signedOut(t, "the laptop", laptop)
	equal(t, "Bob", list(t, bob).User, "Bob")
}

func TestSignOutOthersAndAll(t *testing.T) {
	a := newApp(t)
	laptop, phone, bob := enter(t, a, "Ann", firefox), enter(t, a, "Ann", iPhone), enter(t, a, "Bob", firefox)
	resp := laptop.send(t.Context(), "POST", "/devices/others/sign-out")
	equal(t, "others", body(t, resp), "other devices signed out: 1\n")
	signedOut(t, "the phone", phone)
	equal(t, "the laptop's devices", len(list(t, laptop).Devices), 1)

	phone = enter(t, a, "Ann", iPhone)
	resp = laptop.send(t.Context(), "POST", "/devices/all/sign-out")
	equal(t, "all", body(t, resp), "devices signed out, this one included: 2\n")
	deletesCookie(t, resp)
	signedOut(t, "the phone", phone)
	signedOut(t, "the laptop", laptop)
	equal(t, "Bob", list(t, bob).User, "Bob")
}

// TestSixthDevice: it ends the oldest.
func TestSixthDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		oldest := enter(t, a, "Ann", firefox)
		for range 4 {
			time.Sleep(time.Second)
			enter(t, a, "Ann", iPhone)
		}
		equal(t, "devices", len(list(t, oldest).Devices), 5)
		time.Sleep(time.Second)
		sixth := enter(t, a, "Ann", firefox)
		equal(t, "devices", len(list(t, sixth).Devices), 5)
		signedOut(t, "the oldest", oldest)
	})
}

func TestNames(t *testing.T) {
	a := newApp(t)
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
		{"Ann\x00", 400, "can be printed"},
		{"Ann\nBob", 400, "can be printed"},
		{"Ann\xff", 400, "can be printed"},
	} {
		v := &visitor{app: a}
		resp := v.submit(t, c.name)
		equal(t, fmt.Sprintf("status for %.20q", c.name), resp.StatusCode, c.status)
		if got := body(t, resp); !strings.Contains(got, c.says) {
			t.Errorf("for %.20q: %q, want %q in it", c.name, got, c.says)
		}
		equal(t, fmt.Sprintf("cookies for %.20q", c.name), len(resp.Cookies()), map[int]int{200: 1, 400: 0}[c.status])
	}
}

// TestDevicesNeedAUser: a stranger and an anonymous visitor are told to sign in: scripts by the status, browsers on the page.
func TestDevicesNeedAUser(t *testing.T) {
	a := newApp(t)
	known := arrive(t, a)
	for _, v := range []*visitor{known, {app: a}} {
		equal(t, "GET /devices", v.send(t.Context(), "GET", "/devices").StatusCode, 401)
		for _, path := range []string{"/devices/others/sign-out", "/devices/all/sign-out", "/devices/0000-AAAAAAAAAAAAAAAAAAAAAA/sign-out"} {
			resp := v.send(t.Context(), "POST", path)
			equal(t, path, resp.StatusCode, 401)
			equal(t, path, body(t, resp), "Please sign in.\n")
			equal(t, path+" in a browser", v.send(t.Context(), "POST", path, "Accept", "text/html").StatusCode, 303)
		}
	}
	v := enter(t, a, "Ann", firefox)
	for _, handle := range []string{"0000-AAAAAAAAAAAAAAAAAAAAAA", "nothing", "%00", strings.Repeat("x", 5000)} {
		equal(t, fmt.Sprintf("handle %.30q", handle), v.send(t.Context(), "POST", "/devices/"+handle+"/sign-out").StatusCode, 404)
	}
	for _, c := range [][2]string{{"POST", "/devices"}, {"GET", "/sign-in"}, {"GET", "/devices/all/sign-out"}} {
		equal(t, c[0]+" "+c[1], v.send(t.Context(), c[0], c[1]).StatusCode, 405)
	}
	equal(t, "Ann's devices after all that", len(list(t, v).Devices), 1)
}

// TestDevicesCrossOrigin: another site can neither sign a visitor in nor out.
func TestDevicesCrossOrigin(t *testing.T) {
	a := newApp(t)
	v, other := enter(t, a, "Ann", firefox), enter(t, a, "Ann", iPhone)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		for _, path := range []string{"/devices/others/sign-out", "/devices/all/sign-out", "/devices/" + shown(t, other).Handle + "/sign-out"} {
			equal(t, fmt.Sprint(path, header), v.send(t.Context(), "POST", path, header...).StatusCode, 403)
		}
		for _, v := range []*visitor{v, {app: a}} {
			resp := v.submit(t, "Mallory", header...)
			equal(t, fmt.Sprint("sign-in ", header), resp.StatusCode, 403)
			equal(t, fmt.Sprint("cookies of sign-in ", header), len(resp.Cookies()), 0)
		}
	}
	equal(t, "devices after all that", len(list(t, v).Devices), 2)
}

// TestPanel: the page says once what happened, lists the devices, and no name breaks out of it.
func TestPanel(t *testing.T) {
	a := newApp(t)
	v := &visitor{app: a}
	resp := v.submit(t, "<b>Ann</b>", "Accept", "text/html", "User-Agent", firefox)
	equal(t, "status", resp.StatusCode, 303)
	equal(t, "location", resp.Header.Get("Location"), "/#devices")
	v.keep(resp)
	page := body(t, v.send(t.Context(), "GET", "/", "Accept", "text/html"))
	for _, want := range []string{"signed in as &lt;b&gt;Ann", "Firefox on Linux", "this one", "at most 5 devices"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(page, "<b>Ann") {
		t.Error("the name is markup")
	}
	if page = body(t, v.send(t.Context(), "GET", "/", "Accept", "text/html")); strings.Contains(page, "signed in as &lt;") {
		t.Error("the page says it twice")
	}
	resp = v.send(t.Context(), "POST", "/devices/all/sign-out", "Accept", "text/html")
	v.keep(resp)
	page = body(t, v.send(t.Context(), "GET", "/", "Accept", "text/html"))
	if !strings.Contains(page, "devices signed out, this one included: 1") || !strings.Contains(page, "there is no password") {
		t.Error("after signing out everywhere the page does not say so, with the form")
	}
}

// TestLogOfDevices: the lines name user and devices, and no token.
func TestLogOfDevices(t *testing.T) {
	a := newApp(t)
	v, other := enter(t, a, "Ann", firefox), enter(t, a, "Ann", iPhone)
	handle := shown(t, other).Handle
	v.send(t.Context(), "POST", "/devices/"+handle+"/sign-out")
	v.send(t.Context(), "POST", "/devices/others/sign-out")
	v.send(t.Context(), "POST", "/devices/all/sign-out")
	log := a.log.String()
	for _, want := range []string{
		`msg="signed in" user=Ann session=` + handle, `msg="signed out a device" device=` + handle,
		`msg="signed out the other devices" devices=0`, `msg="signed out all devices" devices=1`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
	for _, cookie := range []string{v.cookie, other.cookie} {
		if _, token, _ := strings.Cut(cookie, "="); strings.Contains(log, token[len(token)-20:]) {
			t.Errorf("the log has the token: %s", log)
		}
	}
}

// TestStoreWithoutUsers: the page says that nobody can sign in, and all else works.
func TestStoreWithoutUsers(t *testing.T) {
	store := memstore.New()
	t.Cleanup(func() { store.Close() })
	h, err := demo.New(struct{ driver.Store }{store}, session.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	v := arrive(t, &app{handler: h})
	resp := v.send(t.Context(), "GET", "/", "Accept", "text/html")
	equal(t, "the page", resp.StatusCode, 200)
	page := body(t, resp)
	if !strings.Contains(page, "Nobody can sign in here") || strings.Contains(page, `action="/sign-in"`) {
		t.Error("the page does not say that nobody can sign in")
	}
	resp = v.submit(t, "Ann")
	equal(t, "signing in", resp.StatusCode, 501)
	equal(t, "in words", body(t, resp), "This store does not know users, so nobody can sign in.\n")
	equal(t, "GET /devices", v.send(t.Context(), "GET", "/devices").StatusCode, 401)
	equal(t, "a visit", body(t, v.send(t.Context(), "GET", "/")), "Hello World #2\n")
}

func TestDeviceLabels(t *testing.T) {
	a := newApp(t)
	const webKit = "AppleWebKit/537.36 (KHTML, like Gecko) "
	for _, c := range []struct{ userAgent, label string }{
		{"", "Unknown device"},
		{"lwp-request/6", "Unknown device"},
		{"curl/8.14.1", "curl"},
		{firefox, "Firefox on Linux"},
		{iPhone, "Safari on iPhone"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webKit + "Chrome/140.0.0.0 Safari/537.36", "Chrome on Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webKit + "Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0", "Edge on Windows"},
		{"Mozilla/5.0 (X11; Linux x86_64) " + webKit + "Chrome/140.0.0.0 Safari/537.36 OPR/124.0.0.0", "Opera on Linux"},
		{"Mozilla/5.0 (Linux; Android 10; K) " + webKit + "Chrome/140.0.0.0 Mobile Safari/537.36", "Chrome on Android"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15", "Safari on Mac"},
		{"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1", "Chrome on iPad"},
		{"Mozilla/5.0 (X11; CrOS x86_64 16328.0) " + webKit + "Chrome/140.0.0.0 Safari/537.36", "Chrome on ChromeOS"},
		{"Something else (Linux)", "Linux"},
	} {
		devices := list(t, enter(t, a, "Ann", c.userAgent)).Devices
		i := slices.IndexFunc(devices, func(d listedDevice) bool { return d.This })
		equal(t, c.userAgent, devices[i].Device, c.label)
	}
}
