package report

import (
	"fmt"

	"github.com/coatcheck-go/session/bench/internal/app"
)

// targets returns the table of what coatcheck is to reach, and what it reaches in this run. Memory
// has no range: it is the same in each round.
func (r Report) targets() grid {
	g := grid{title: "targets", head: []string{"what", "target", "now", "range", "reached"}}
	add := func(what string, target float64, now Spread, ok bool) {
		if !ok {
			return
		}
		cells := row(plain, what, "≤ "+fixed(target, 2), now.median(), now.between(), yesNo(now.Median <= target))
		if now.Median > target {
			cells[4].mark = bad
		}
		g.rows = append(g.rows, cells)
	}
	for _, t := range []struct {
		what, kind       string
		overLimit, peers float64
	}{
		{"CPU of a read from the near cache", Read, 1.10, 0.25},
		{"CPU of a write", Write, 1.30, 0.42},
		{"CPU of a sign-in", SignIn, 2.40, 0},
	} {
		own, other, ok := r.pair(t.kind, r.limit)
		add(fmt.Sprintf("%s, × %s", t.what, other.System), t.overLimit, own.over(other), ok)
		if t.peers > 0 {
			own, other, ok = r.pair(t.kind, r.bestPeer)
			add(fmt.Sprintf("%s, × the best other library, %s", t.what, other.System), t.peers, own.over(other), ok)
		}
	}
	apply, ok := r.script(ApplyShort)
	base, both := r.script(HIncrBy)
	add("apply.lua for one counter, × HINCRBY in the server", 9, ratios(apply.Default, base.Default), ok && both)

	for _, t := range []struct {
		what, data                 string
		signedIn, tracked, advised bool
	}{
		{"bytes, signed-in session of short fields, default setting, × one JSON string", app.Short.Name, true, false, false},
		{"bytes, " + app.Long.Name + ", advised setting, × one JSON string", app.Long.Name, false, false, true},
		{"the same, tracked", app.Long.Name, false, true, true},
	} {
		times, ok := r.overJSON(t.data, t.signedIn, t.tracked, t.advised)
		add(t.what, 1.20, Spread{times, times, times}, ok)
	}
	return g
}

// pair returns the results of coatcheck and of another system in a case, at the first number of
// connections.
func (r Report) pair(kind string, find func(int, string) (Result, bool)) (own, other Result, ok bool) {
	if len(r.Results) == 0 {
		return own, other, false
	}
	connections := r.Results[0].Connections
	own, ok = r.own(connections, kind)
	other, found := find(connections, kind)
	return own, other, ok && found
}
