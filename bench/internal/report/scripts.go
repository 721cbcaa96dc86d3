package report

import "strings"

// Rows of the table of scripts that other tables use.
const (
	HIncrBy    = "HINCRBY"
	ApplyShort = "apply.lua, 6 short fields"
)

// Script is how long the server runs a command or a script, in µs per call, in each round.
type Script struct {
	What             string
	Default, Advised []float64
}

// scripts returns the table of the time in the server.
func (r Report) scripts() grid {
	g := grid{
		title: "one counter, time in the server",
		head: []string{
			"command or script", "µs", "× HINCRBY", "range", "µs, advised", "× HINCRBY, advised", "range, advised",
		},
		notes: []string{
			"The server's own figures (INFO commandstats). coatcheck's store sends the calls of apply.lua.",
			"Advised: with " + r.Setting.Advised + ". The other columns are with " + r.Setting.Default + ".",
		},
	}
	base, _ := r.script(HIncrBy)
	for _, s := range r.Scripts {
		as := limit
		if s.What == HIncrBy {
			as = plain
		} else if strings.HasPrefix(s.What, "apply.lua") {
			as = ours
		}
		plainRatio, advisedRatio := ratios(s.Default, base.Default), ratios(s.Advised, base.Advised)
		g.rows = append(g.rows, row(as, s.What,
			fixed(spread(s.Default).Median, 2), fixed(plainRatio.Median, 1), plainRatio.between(),
			fixed(spread(s.Advised).Median, 2), fixed(advisedRatio.Median, 1), advisedRatio.between()))
	}
	return g
}

// script returns the row with this name.
func (r Report) script(what string) (Script, bool) {
	for _, s := range r.Scripts {
		if s.What == what {
			return s, true
		}
	}
	return Script{}, false
}
