package demo_test

import (
	"context"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "write screenshots of the tour to this `DIR`")

// screen is how a visitor looks at the site.
type screen struct {
	name          string
	width, height int64
	scheme        string
	touch         bool
}

var screens = []screen{
	{"light", 1180, 800, "light", false},
	{"dark", 1180, 800, "dark", false},
	{"phone", 390, 844, "light", true},
	{"small-phone-dark", 360, 640, "dark", true},
}

var aPhone = screens[2]

// use shows the pages of the browser on this screen.
func (s screen) use(t *testing.T, ctx context.Context) {
	t.Helper()
	options := []chromedp.EmulateViewportOption{}
	if s.touch {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	mustDo(t, ctx, chromedp.EmulateViewport(s.width, s.height, options...), media("prefers-color-scheme", s.scheme))
}

// media sets a media feature of the browser.
func media(name, value string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: name, Value: value}},
		})
		return chromedp.Void{}, err
	}
}

// TestPagesFitEachScreen opens each page, and looks at it in light and dark, on a wide screen and
// on two phones. No page scrolls sideways, each text has contrast, and each control is large
// enough: 24 pixels for a mouse, and 44 for a finger. With -screenshots, it also writes what it
// sees.
func TestPagesFitEachScreen(t *testing.T) {
	t.Parallel()
	a := mustNewApp(t)
	server := httptest.NewServer(a.handler)
	t.Cleanup(server.Close)
	ctx := mustOpenBrowser(t)
	mustSignIn(t, a, "Ann", iPhone)
	look := func(name string) {
		t.Helper()
		mustHaveNames(t, ctx, name)
		for _, s := range screens {
			s.use(t, ctx)
			what := name + " on the screen " + s.name
			if got := mustEvaluate[int64](t, ctx, `document.documentElement.scrollWidth`); got > s.width {
				t.Errorf("%s is %d pixels wide, want at most %d", what, got, s.width)
			}
			mustEqual(t, what+": has a finger", mustEvaluate[bool](t, ctx, `matchMedia("(pointer: coarse)").matches`), s.touch)
			least := 24
			if s.touch {
				least = 44
			}
			mustFindNone(t, ctx, what+": controls under the size", smallTargets(least))
			mustFindNone(t, ctx, what+": texts with little contrast", lowContrast)
			if *screenshots != "" {
				mustWriteScreenshot(t, ctx, filepath.Join(*screenshots, "tour-"+name+"-"+s.name+".png"))
			}
		}
	}
	open := func(path string) { mustDo(t, ctx, chromedp.Navigate(server.URL+path)) }

	open("/")
	look("counter")
	open("/account")
	look("sign-in")
	mustSignInOnPage(t, ctx, "Ann")
	look("devices")
	open("/lab")
	mustEqual(t, "verdict", mustRunRace(t, ctx, "#add"), "good")
	mustEqual(t, "verdict", mustRunRace(t, ctx, "#end"), "good")
	look("lab")
	mustEvaluate[bool](t, ctx, `document.querySelectorAll("[data-state]").forEach((el) => (el.dataset.state = el.parentElement.id === "cells" ? "failed" : "bad")), true`)
	look("lab-bad")
	open("/shop")
	look("shop-empty")
	mustEvaluate[bool](t, ctx, addTwenty("Umbrella"))
	mustEvaluate[bool](t, ctx, addTwenty("Opera glasses"))
	mustBecome(t, hasInCart("glasses", "20")+"&&"+hasInCart("umbrella", "20"), ctx)
	look("shop")
	// A player who does not move for 30 seconds leaves the board.
	mustPlay(t, mustVisit(t, a))
	open("/game")
	mustBecome(t, `document.querySelectorAll(".player").length === 2`, ctx)
	look("game")
	mustEvaluate[bool](t, ctx, `document.querySelector("#state").dataset.state = "bad", document.querySelector("#again").hidden = false, true`)
	look("game-over")
}

func mustWriteScreenshot(t *testing.T, ctx context.Context, path string) {
	t.Helper()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, png, 0o600); err != nil {
		t.Fatal(err)
	}
}
