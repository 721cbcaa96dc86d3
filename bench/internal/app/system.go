package app

import (
	"fmt"
	"slices"
	"strings"
)

// Options are the options to open a System with.
type Options struct {
	Redis string // host:port
	Pool  int    // connections to Redis, for clients with a connection pool
}

// System is one way to serve the application.
type System struct {
	Name    string
	Modules []string // paths of its modules, whose versions the report shows
	Forgets bool     // it keeps no session, so it is not tested for correctness and memory

	open func(Options) (Server, error)
}

// names lists the systems in the order of the report. Systems that this binary does not contain are
// left out.
var names = []string{Bare, OneCommand, Coatcheck, "scs", "gorilla", "fiber"}

// The two limits, and the library of this repository.
const (
	Bare       = "bare"
	OneCommand = "one-command"
	Coatcheck  = "coatcheck"
)

var systems = map[string]System{}

// register adds a system. The init function of each system's file calls it.
func register(s System) {
	if !slices.Contains(names, s.Name) {
		panic(fmt.Sprintf("app: system %q is missing in names", s.Name))
	}
	systems[s.Name] = s
}

// Systems returns all systems that this binary contains, in the order of the report.
func Systems() []System {
	var all []System
	for _, name := range names {
		if s, ok := systems[name]; ok {
			all = append(all, s)
		}
	}
	return all
}

// Find returns the systems with these names, in the order of the report. Without names, it returns
// all.
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
			return nil, fmt.Errorf("unknown system %q: the systems are %s", name, strings.Join(Names(all), ", "))
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
