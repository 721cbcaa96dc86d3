package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/coatcheck-go/session/bench/internal/app"
)

// The chart is a template. The chart libraries that write SVG do not follow the light or dark mode
// of the reader, and have no description for screen readers. Nor would they draw these bars in
// fewer lines.

//go:embed chart.svg.tmpl
var chartTemplate string

var chartSVG = template.Must(template.New("chart").Parse(chartTemplate))

// Measures of the chart, in pixels.
const (
	chartWidth = 760
	barLeft    = 150 // where the bars start
	barRight   = 680 // where the longest bar ends, followed by its figure
	barThick   = 16
	barPitch   = 23
	panelHead  = 26
	panelGap   = 14
	chartHead  = 60
	textDrop   = 12.5 // from the top of a bar to the baseline of its text
	legendGap  = 18
)

// chart is the data of the template.
type chart struct {
	Title, Description                        string
	Width, Height, Left, LabelX               float64
	LegendServer, LegendRedisBox, LegendRedis float64
	Thick                                     float64
	Panels                                    []panel
}

type panel struct {
	Name               string
	TextY, Top, Bottom float64
	Bars               []bar
}

type bar struct {
	System, Class, Value                    string
	Y, TextY, Server, RedisX, Redis, ValueX float64
}

// SVG writes the chart for the documentation: the CPU time per request, at the first number of
// connections.
func (r Report) SVG(w io.Writer) error {
	if len(r.Results) == 0 {
		return fmt.Errorf("there is no result to draw")
	}
	return chartSVG.Execute(w, r.chart(r.Results[0].Connections))
}

// chart lays out the chart for one number of connections.
func (r Report) chart(connections int) chart {
	c := chart{
		Title: fmt.Sprintf("CPU time per request, µs (%d connections; lower is better)", connections),
		Width: chartWidth, Left: barLeft, LabelX: barLeft - 8, Thick: barThick,
		LegendServer: barLeft + legendGap, LegendRedisBox: barLeft + 130, LegendRedis: barLeft + 130 + legendGap,
	}
	longest := 1.0
	for _, result := range r.Results {
		if result.Connections == connections {
			longest = max(longest, result.CPU())
		}
	}
	var values []string
	y := float64(chartHead)
	r.groups(func(group int, kind string, results []Result) {
		if group != connections {
			return
		}
		p := newPanel(kind, y, (barRight-barLeft)/longest, results)
		y = p.Bottom + panelGap
		for _, b := range p.Bars {
			values = append(values, fmt.Sprintf("%s, %s: %s", kind, b.System, b.Value))
		}
		c.Panels = append(c.Panels, p)
	})
	c.Height = y
	c.Description = strings.Join(values, "; ") + "."
	return c
}

// newPanel lays out the bars of one case, from y down, with scale pixels per µs.
func newPanel(kind string, y, scale float64, results []Result) panel {
	p := panel{Name: kind, TextY: y + textDrop, Top: y + panelHead - 4}
	y += panelHead
	for _, result := range results {
		class := "plain"
		switch app.RoleOf(result.System) {
		case app.Own:
			class = "own"
		case app.Limit:
			class = "faint"
		}
		server, redis := round(result.ServerCPU*scale), round(result.RedisCPU*scale)
		p.Bars = append(p.Bars, bar{
			System: result.System, Class: class, Value: digits(result.CPU()) + " µs",
			Y: y, TextY: y + textDrop,
			Server: server, RedisX: round(barLeft + server), Redis: redis, ValueX: round(barLeft + server + redis + 6),
		})
		y += barPitch
	}
	p.Bottom = y
	return p
}
