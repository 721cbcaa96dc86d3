package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/bench/internal/app"
)

// example returns a report with a row of each kind.
func example() Report {
	one, all, yes, no := 1, 401, true, false
	result := func(system, kind string, server, redis float64, errs int) Result {
		sample := Sample{
			ServerCPU: server, RedisCPU: redis, RequestsPerSecond: 12345.6, P50: 1000, P99: 2000,
			Commands: 2.04, CommandNames: []string{"GET", "SET"}, Requests: 10, Errors: errs,
		}
		return Median(system, kind, 64, []Sample{sample})
	}
	return Report{
		Setting: Setting{
			Go: "go1.26", Platform: "linux/amd64", Redis: "Redis 7.0.15", Cores: 2, Rounds: 1, Limit: "2s",
			Versions:    []Version{{"scs", "example.org/scs", "v2.9.0"}, {"fiber", "example.org/scs", "v2.9.0"}},
			RedisConfig: []string{"maxmemory 1gb"}, Default: "value 64", Advised: "value 1024",
		},
		Results: []Result{
			result(app.Bare, Read, 20, 0, 0), result(app.Coatcheck, Read, 22, 0, 0),
			result("scs", Read, 80, 20, 0), result("fiber", Read, 150, 50, 0),
			result(app.OneCommand, Write, 30, 10, 0), result("scs", Write, 90, 30, 3),
			result(app.OneCommand, SignIn, 30, 10, 0), result(app.Coatcheck, SignIn, 70, 30, 0), result("scs", SignIn, 50, 10, 0),
		},
		Facts: []Facts{
			{System: app.Coatcheck, Updates: &all, LostUpdates: new(int), BackAfterSignOut: &no},
			{System: "scs", Updates: &all, LostUpdates: &one, BackAfterSignOut: &yes},
		},
		Memory: []Memory{
			{Data: app.Short.Name, Holder: OneJSON, SignedIn: true, Default: 400, Advised: 400},
			{Data: app.Short.Name, Holder: app.Coatcheck, SignedIn: true, Default: 1500, Advised: 800},
		},
		IndexSize: 234,
		Scripts: []Script{
			{What: HIncrBy, Default: []float64{0.5, 0.6, 1}, Advised: []float64{1, 1, 1}},
			{What: ApplyShort, Default: []float64{5, 12, 7}, Advised: []float64{8, 8, 8}},
		},
		InProcess: []InProcess{
			{System: app.Coatcheck, Micros: []float64{2}, Allocations: []float64{6}, Bytes: []float64{700}},
			{System: app.JWTHMAC, Micros: []float64{5}, Allocations: []float64{49}, Bytes: []float64{3000}},
		},
	}
}

func TestMedianCombinesSamples(t *testing.T) {
	var samples []Sample
	for _, us := range []float64{30, 10, 20, 1000} {
		samples = append(samples, Sample{ServerCPU: us, Requests: 5, Errors: 1})
	}
	r := Median("scs", Read, 64, samples)
	if r.ServerCPU != 25 || r.ServerCPUMin != 10 || r.ServerCPUMax != 1000 {
		t.Errorf("median of four samples: got %+v", r)
	}
	if r.Requests != 20 || r.Errors != 4 || r.Rounds != 4 {
		t.Errorf("sums of four samples: got %+v", r)
	}
	if r = Median("scs", Read, 64, samples[:3]); r.ServerCPU != 20 {
		t.Errorf("median of three samples: got %v, want 20", r.ServerCPU)
	}
}

func TestTextShowsEachFigure(t *testing.T) {
	var plainText, coloured bytes.Buffer
	if err := errors.Join(example().Text(&plainText, false), example().Text(&coloured, true)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plainText.String(), "\x1b") || !strings.Contains(coloured.String(), "\x1b[1;32m") {
		t.Error("the plain text has colours, or the coloured text has none")
	}
	for _, want := range []string{
		"read, 64 connections, Redis 7.0.15", "12,346", "2: GET SET", "5.00", "scs (3 errors)", "1 of 401", "one JSON string",
		"1.10 × the CPU of bare, 0.22 × the CPU of the best other library, scs.",
		"what a sign-in does, Redis 7.0.15", "3.75", "234 bytes", "7.00–20.00",
		"maxmemory 1gb", "Versions: example.org/scs v2.9.0.",
	} {
		if !strings.Contains(plainText.String(), want) {
			t.Errorf("the text has no %q:\n%s", want, plainText.String())
		}
	}
}

func TestMarkdownTablesAreEven(t *testing.T) {
	var b bytes.Buffer
	if err := example().Markdown(&b); err != nil {
		t.Fatal(err)
	}
	columns := 0
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		if n := strings.Count(line, "|"); columns == 0 {
			columns = n
		} else if n != columns {
			t.Errorf("the row has %d columns, want %d: %s", n-1, columns-1, line)
		}
	}
	if !strings.Contains(b.String(), "| **coatcheck** |") {
		t.Errorf("the row of coatcheck is not highlighted:\n%s", b.String())
	}
}

func TestSVGIsWellFormed(t *testing.T) {
	var b bytes.Buffer
	if err := example().SVG(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"prefers-color-scheme: dark", "read, scs: 100 µs", `<text class="own end"`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the chart has no %q", want)
		}
	}
	for d := xml.NewDecoder(&b); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestThousandsAreGrouped(t *testing.T) {
	for f, want := range map[float64]string{0: "0", 999.4: "999", 1000: "1,000", 1234567.8: "1,234,568"} {
		if got := thousands(f); got != want {
			t.Errorf("thousands(%v) = %q, want %q", f, got, want)
		}
	}
}
