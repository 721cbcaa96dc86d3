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
}

var screens = []screen{
	{"light", 1180, 800, "light"},
	{"dark", 1180, 800, "dark"},
	{"phone", 390, 844, "light"},
}

// use shows the pages of the browser on this screen.
func (s screen) use(t *testing.T, ctx context.Context) {
	t.Helper()
	mustDo(t, ctx, chromedp.EmulateViewport(s.width, s.height, chromedp.EmulateMobile), media("prefers-color-scheme", s.scheme))
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

// TestPagesFitEachScreen opens each page on wide screens and on a phone. No page scrolls sideways.
// With -screenshots, it also writes what it sees.
func TestPagesFitEachScreen(t *testing.T) {
	a := mustNewApp(t)
	server := httptest.NewServer(a.handler)
	t.Cleanup(server.Close)
	ctx := mustOpenBrowser(t)
	mustPlay(t, mustVisit(t, a))
	mustDo(t, ctx, chromedp.Navigate(server.URL), chromedp.Navigate(server.URL+"/account"))
	mustSignInOnPage(t, ctx, "Ann")
	for _, s := range screens {
		s.use(t, ctx)
		for _, path := range []string{"/", "/lab", "/account", "/shop", "/game"} {
			mustDo(t, ctx, chromedp.Navigate(server.URL+path))
			if path == "/shop" && s.name == "light" {
				mustDo(t, ctx, chromedp.Click(chromedp.CSS(`[aria-label="Add Umbrella"]`)), chromedp.WaitVisible(chromedp.CSS("#more-umbrella")),
					chromedp.Click(chromedp.CSS(`[aria-label="Add Top hat"]`)), chromedp.WaitVisible(chromedp.CSS("#more-hat")))
			}
			if path == "/game" {
				mustDo(t, ctx, chromedp.WaitVisible(chromedp.CSS(".player.me + .player, .player + .player.me")))
			}
			if got := mustEvaluate[int64](t, ctx, `document.documentElement.scrollWidth`); got > s.width {
				t.Errorf("%s on the screen %q is %d pixels wide, want at most %d", path, s.name, got, s.width)
			}
			if *screenshots != "" {
				mustWriteScreenshot(t, ctx, filepath.Join(*screenshots, "tour-"+filepath.Base("x"+path)+"-"+s.name+".png"))
			}
		}
	}
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
