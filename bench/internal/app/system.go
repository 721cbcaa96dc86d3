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

	NoNearCache bool // coatcheck keeps no copies of sessions, so Redis does not have to track them
}

// System is one way to serve the application.
type System struct {
	Name    string
	Role    Role
	Modules []string // paths of its modules, whose versions the report shows
	Cases   []string // it is measured in these cases only; nil: in all
	Tests   Tests    // what it is tested for, apart from its speed
	Advised bool     // it uses a Redis server with the recommended setting
	SignIn  SignIn

	open func(Options) (Server, error)
}

// Role says what a system is in a comparison.
type Role int

// The roles.
const (
	Peer  Role = iota // another session library
	Own               // the library of this repository
	Limit             // not a session library: what no session library can do faster
	Token             // keeps its data in the token, not in a session
)

// Tests says which tests of correctness and memory make sense for a system.
type Tests struct{ Updates, SignOut, Memory bool }

// SignIn says what a system does when a visitor signs in. The report shows it beside the time that
// the sign-in takes.
type SignIn struct {
	NewToken    bool // an older token does not open the signed-in session
	UserList    bool // adds the session to the list of the user's sessions
	Revocations bool // checks that the user was not revoked meanwhile
	Atomic      bool // another request sees all of its effects, or none
}

// The cases. Each is a kind of request.
const (
	CaseRead   = "read"
	CaseWrite  = "write"
	CaseSignIn = "sign-in"
)

// Measures reports whether s is measured in a case.
func (s System) Measures(kind string) bool { return s.Cases == nil || slices.Contains(s.Cases, kind) }

// names lists the systems in the order of the report. Systems that this binary does not contain are
// left out.
var names = []string{
	Bare, OneCommand, ByHand, Coatcheck, CoatcheckAdvised, "scs", "gorilla", "fiber", JWTHMAC, JWTEdDSA,
}

// The limits, the library of this repository, and the tokens.
const (
	Bare             = "bare"
	OneCommand       = "one-command"
	ByHand           = "by-hand"
	Coatcheck        = "coatcheck"
	CoatcheckAdvised = "coatcheck-advised"
	JWTHMAC          = "jwt-hs256"
	JWTEdDSA         = "jwt-eddsa"
)

// RoleOf returns the role of the system with this name.
func RoleOf(name string) Role { return systems[name].Role }

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
