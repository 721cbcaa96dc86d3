package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/coatcheck-go/session/bench/internal/app"
)

// The chart is a template rather than a chart library's: none of those that make SVG lets it follow the reader's light
// or dark mode, names what it shows to screen readers, or draws a dozen bars in fewer lines.

//go:embed chart.svg.tmpl
var chartTemplate string

var chartSVG = template.Must(template.New("chart").Parse(chartTemplate))

// Measures of the chart, in pixels.
const (
	chartWidth = 760
	barLeft    = 110 // where the bars start
	barRight   = 680 // where the longest bar ends, with its figure beside it
	barThick   = 16
	barPitch   = 23
	panelHead  = 26
	panelGap   = 14
	chartHead  = 60
	textDrop   = 12.5 // from the top of a bar to the base of its text
	legendGap  = 18
)

// chart is what the template shows.
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

// SVG writes the chart for the README: processor time a request, at the first number of connections.
func (r Report) SVG(w io.Writer) error {
	if len(r.Results) == 0 {
		return fmt.Errorf("no result to draw")
	}
	return chartSVG.Execute(w, r.chart(r.Results[0].Connections))
}

func (r Report) chart(connections int) chart {
	c := chart{
		Title: fmt.Sprintf("CPU time a request, µs (%d connections; less is better)", connections),
		Width: chartWidth, Left: barLeft, LabelX: barLeft - 8, Thick: barThick,
		LegendServer: barLeft + legendGap, LegendRedisBox: barLeft + 130, LegendRedis: barLeft + 130 + legendGap,
	}
	most := 1.0
	for _, result := range r.Results {
		if result.Connections == connections {
			most = max(most, result.CPU())
		}
	}
	var says []string
	y := float64(chartHead)
	r.groups(func(group int, kind string, results []Result) {
		if group != connections {
			return
		}
		p := newPanel(kind, y, (barRight-barLeft)/most, results)
		y = p.Bottom + panelGap
		for _, b := range p.Bars {
			says = append(says, fmt.Sprintf("%s, %s: %s", kind, b.System, b.Value))
		}
		c.Panels = append(c.Panels, p)
	})
	c.Height = y
	c.Description = strings.Join(says, "; ") + "."
	return c
}

// newPanel lays out the bars of one case, from y down, with scale pixels a µs.
func newPanel(kind string, y, scale float64, results []Result) panel {
	p := panel{Name: kind, TextY: y + textDrop, Top: y + panelHead - 4}
	y += panelHead
	for _, result := range results {
		class := "plain"
		switch result.System {
		case app.Coatcheck:
			class = "own"
		case app.Bare, app.OneCommand:
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
