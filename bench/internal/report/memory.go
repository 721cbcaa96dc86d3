package report

import (
	"fmt"

	"github.com/coatcheck-go/session/bench/internal/app"
)

// OneJSON is the holder of a session that is stored as one JSON string with a time limit. The
// memory of the others is compared with it.
const OneJSON = "one JSON string"

// Memory is the memory of a session in Redis, in bytes, with its key and time limit.
type Memory struct {
	Data, Holder     string
	SignedIn         bool
	Tracked          bool // a process has a copy of the session, so Redis tracks its key
	Default, Advised float64
}

// memory returns the table of the memory of sessions.
func (r Report) memory() grid {
	g := grid{
		title: "memory of a session, bytes",
		head:  []string{"session", "stored by", "default", "× JSON", "advised", "× JSON, advised"},
		notes: []string{
			"Tracked: a process has a copy in its near cache, so Redis remembers whom to notify of a change. " +
				"That is memory of Redis, not of the session.",
			"Key and time limit included. Default: " + r.Setting.Default + ". Advised: " + r.Setting.Advised + ".",
			OneJSON + " has the same fields and, if signed in, the same facts about the sign-in.",
		},
	}
	if r.IndexSize > 0 {
		g.notes = append(g.notes, fmt.Sprintf("The index of a user with one session takes another %s bytes "+
			"and a time limit. The JSON string has no index.", thousands(r.IndexSize)))
	}
	for _, m := range r.Memory {
		session := m.Data
		if m.SignedIn {
			session += ", signed in"
		}
		as, holder := markOf(m.Holder), m.Holder
		if m.Tracked {
			holder += ", tracked"
		}
		if m.Holder == OneJSON {
			as = limit
		}
		base, _ := r.stored(m.Data, OneJSON, m.SignedIn, false)
		g.rows = append(g.rows, row(as, session, holder, thousands(m.Default), fixed(m.Default/base.Default, 2),
			thousands(m.Advised), fixed(m.Advised/base.Advised, 2)))
	}
	return g
}

// stored returns the memory of one kind of session.
func (r Report) stored(data, holder string, signedIn, tracked bool) (Memory, bool) {
	for _, m := range r.Memory {
		if m.Data == data && m.Holder == holder && m.SignedIn == signedIn && m.Tracked == tracked {
			return m, true
		}
	}
	return Memory{}, false
}

// overJSON returns how many times the memory of the JSON string a session of coatcheck takes.
func (r Report) overJSON(data string, signedIn, tracked, advised bool) (float64, bool) {
	own, ok := r.stored(data, app.Coatcheck, signedIn, tracked)
	base, both := r.stored(data, OneJSON, signedIn, false)
	if !ok || !both {
		return 0, false
	}
	if advised {
		return own.Advised / base.Advised, true
	}
	return own.Default / base.Default, true
}
