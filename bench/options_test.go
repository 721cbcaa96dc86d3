package main

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"
)

func TestInvalidOptionsAreRefused(t *testing.T) {
	for args, want := range map[string]string{
		"-systems scs,none": `unknown system "none": the systems are bare, one-command`,
		"-cases reed":       `unknown case "reed": the cases are read, write, sign-in`,
		"-connections 64,x": `-connections "x": must be`,
		"-connections 0":    `-connections "0": must be`,
		"-rounds 0":         "at least 1",
		"-duration 0s":      "-duration must not be 0",
		"-redis maxmemory":  `must be "NAME VALUE"`,
		"-parts speeed":     `unknown part "speeed": the parts are correctness, memory`,
		"-script-calls 0":   "at least 1",
		"-within -1s":       "must not be negative",
		"read":              "takes only flags",
	} {
		var stdout, stderr bytes.Buffer
		if _, err := parseOptions(strings.Fields(args), &stdout, &stderr); err == nil {
			t.Errorf("%s: accepted, want an error", args)
		}
		if !strings.Contains(stderr.String(), want) || stdout.Len() > 0 {
			t.Errorf("%s: printed %q, want it to contain %q", args, stderr.String(), want)
		}
	}
}

func TestOptionsKeepTheOrderOfTheReport(t *testing.T) {
	var out bytes.Buffer
	o, err := parseOptions(strings.Fields("-systems fiber,bare -cases write,read -connections 512,64"), &out, &out)
	if err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if s := o.config.Systems; len(s) != 2 || s[0].Name != "bare" || s[1].Name != "fiber" {
		t.Errorf("systems %v, want the order of the report", s)
	}
	if c := o.config.Cases; len(c) != 2 || c[0] != "read" || c[1] != "write" {
		t.Errorf("cases %v, want the order of the report", c)
	}
	if c := o.config.Connections; len(c) != 2 || c[0] != 512 || c[1] != 64 {
		t.Errorf("connections %v, want the order given", c)
	}
}

func TestHelpGoesToStdout(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if _, err := parseOptions([]string{"-help"}, &stdout, &stderr); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	if !strings.Contains(stdout.String(), "Examples:") || stderr.Len() > 0 {
		t.Errorf("stdout: %q, stderr: %q, want the help on stdout only", stdout.String(), stderr.String())
	}
}
