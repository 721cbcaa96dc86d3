package demo_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// lowContrast is the list of texts on the page whose contrast is too low: under 3 for large text,
// and 4.5 for all other (WCAG 2.2, 1.4.3). It ends with the number of texts.
const lowContrast = `(() => {
	const parse = (color) => {
		const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
		return [r, g, b, a];
	};
	const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
	const background = (el) => {
		if (!el) return [255, 255, 255, 1];
		const color = parse(getComputedStyle(el).backgroundColor);
		return color[3] === 1 ? color : over(color, background(el.parentElement));
	};
	const opacity = (el) => (el ? getComputedStyle(el).opacity * opacity(el.parentElement) : 1);
	const luminance = (color) => {
		const [r, g, b] = color.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const contrast = (a, b) => {
		const [dark, light] = [luminance(a), luminance(b)].sort((a, b) => a - b);
		return (light + 0.05) / (dark + 0.05);
	};
	const found = [];
	let texts = 0;
	const check = (text, el, style) => {
		texts++;
		const [color, behind] = [parse(style.color), background(el)];
		color[3] *= opacity(el);
		const size = parseFloat(style.fontSize);
		const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
		const ratio = contrast(over(color, behind), behind);
		if (ratio < least) found.push(ratio.toFixed(2) + ": " + text.slice(0, 40));
	};
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node; (node = walker.nextNode()); ) {
		const text = node.data.trim();
		if (text && node.parentElement.checkVisibility({ visibilityProperty: true })) check(text, node.parentElement, getComputedStyle(node.parentElement));
	}
	for (const input of document.querySelectorAll("input[placeholder]")) {
		if (input.checkVisibility()) check(input.placeholder, input, getComputedStyle(input, "::placeholder"));
	}
	return [...found, texts];
})()`

// smallTargets is the list of the controls that are smaller than a number of CSS pixels: a press
// beside the center, at the edge of that size, does not reach them. It ends with the number of
// controls.
func smallTargets(least int) string {
	return fmt.Sprintf(`(() => {
		const controls = [...document.querySelectorAll("a[href]:not(.skip), button, input:not([type=hidden]), [tabindex='0']")].filter((el) => el.checkVisibility());
		const small = controls.filter((el) => {
			el.scrollIntoView({ block: "center", behavior: "instant" });
			const box = el.getBoundingClientRect();
			const [x, y, half] = [box.x + box.width / 2, box.y + box.height / 2, %d / 2 - 0.5];
			return [[-half, 0], [half, 0], [0, -half], [0, half]].some(([dx, dy]) => !el.contains(document.elementFromPoint(x + dx, y + dy)));
		});
		scrollTo(0, 0);
		return [...small.map((el) => el.outerHTML.slice(0, 80)), controls.length];
	})()`, least)
}

// mustFindNone checks that a list of a page has only its last entry, a number that is not 0.
func mustFindNone(t *testing.T, ctx context.Context, what, list string) {
	t.Helper()
	found := mustEvaluate[[]any](t, ctx, list)
	if last := len(found) - 1; last > 0 || found[last] == 0.0 {
		t.Errorf("%s: %v", what, found)
	}
}

// mustHaveNames checks that a screen reader has a name for each control of the page.
func mustHaveNames(t *testing.T, ctx context.Context, what string) {
	t.Helper()
	nodes, err := chromedp.Run(ctx, func(ctx context.Context, target *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
		return cdp.Call(ctx, target, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	})
	if err != nil {
		t.Fatal(err)
	}
	named := []string{"button", "link", "textbox", "application", "region", "navigation", "image"}
	controls := 0
	for _, node := range nodes.Nodes {
		if node.Ignored || node.Role == nil || !slices.Contains(named, valueOf(node.Role)) {
			continue
		}
		controls++
		if node.Name == nil || valueOf(node.Name) == "" {
			t.Errorf("%s has a %s without a name", what, valueOf(node.Role))
		}
	}
	if controls < 5 {
		t.Errorf("%s has %d controls, want more", what, controls)
	}
}

func valueOf(v *accessibility.Value) string { return strings.Trim(string(v.Value), `"`) }
