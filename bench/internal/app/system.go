package app

import (
	"fmt"
	"slices"
	"strings"
)

// Options are what every System is opened with.
type Options struct {
	Redis string // host:port
	Pool  int    // connections to Redis, for clients that have a pool to size
}

// System is one way to serve the application.
type System struct {
	Name    string
	Modules []string // what it is made of, as module paths: the report says which versions
	Forgets bool     // keeps no session, so that questions about what it kept make no sense

	open func(Options) (Server, error)
}

// names is the order of the report. A system that this binary was built without is left out.
var names = []string{Bare, OneCommand, Coatcheck, "scs", "gorilla", "fiber"}

// The two limits, and what all this is for.
const (
	Bare       = "bare"
	OneCommand = "one-command"
	Coatcheck  = "coatcheck"
)

var systems = map[string]System{}

// register is called by the init of each system's file.
func register(s System) {
	if !slices.Contains(names, s.Name) {
		panic(fmt.Sprintf("app: system %q is not in the report's order", s.Name))
	}
	systems[s.Name] = s
}

// Systems returns all that this binary can serve, in the order of the report.
func Systems() []System {
	var all []System
	for _, name := range names {
		if s, ok := systems[name]; ok {
			all = append(all, s)
		}
	}
	return all
}

// Find returns the systems called names, in the order of the report; all of them if names is empty.
func Find(names []string) ([]System, error) {
	all := Systems()
	if len(names) == 0 {
		return all, nil
	}
	var found []System
	for _, s := range all {
		if slices.Contains(names, s.Name) {
			found = append(found, s)
		}
	}
	for _, name := range names {
		if _, ok := systems[name]; !ok {
			return nil, fmt.Errorf("no system %q; there are %s", name, strings.Join(Names(all), ", "))
		}
	}
	return found, nil
}

// Names returns the names of list.
func Names(list []System) []string {
	var n []string
	for _, s := range list {
		n = append(n, s.Name)
	}
	return n
}
