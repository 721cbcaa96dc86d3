package main

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"
)

func TestOptionsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"-systems scs,none": `no system "none"; there are bare, one-command`,
		"-cases reed":       `no case "reed"; there are read, write, sign-in`,
		"-connections 64,x": `-connections "x"`,
		"-connections 0":    `-connections "0"`,
		"-rounds 0":         "at least 1",
		"-duration 0s":      "-duration is not 0",
		"-redis maxmemory":  `write "NAME VALUE"`,
		"read":              "flags only",
	} {
		var stdout, stderr bytes.Buffer
		if _, err := parseOptions(strings.Fields(args), &stdout, &stderr); err == nil {
			t.Errorf("%s: no error", args)
		}
		if !strings.Contains(stderr.String(), want) || stdout.Len() > 0 {
			t.Errorf("%s: said %q, want it to have %q", args, stderr.String(), want)
		}
	}
}

func TestOptionsInOrder(t *testing.T) {
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

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if _, err := parseOptions([]string{"-help"}, &stdout, &stderr); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	if !strings.Contains(stdout.String(), "Examples:") || stderr.Len() > 0 {
		t.Error("help belongs on the standard output")
	}
}
