package report

import (
	"encoding/json"
	"io"
)

// JSON writes one object per line. Each has a case and a system: the results with the facts of
// their system, then the memory, the scripts and the reads in the process.
func (r Report) JSON(w io.Writer) error {
	facts := map[string]Facts{}
	for _, f := range r.Facts {
		facts[f.System] = f
	}
	var all []any
	for _, result := range r.Results {
		all = append(all, struct {
			Result
			Facts
		}{result, facts[result.System]})
	}
	for _, m := range r.Memory {
		all = append(all, m.line())
	}
	for _, s := range r.Scripts {
		all = append(all, s.line())
	}
	for _, p := range r.InProcess {
		all = append(all, p.line())
	}
	lines := json.NewEncoder(w)
	for _, line := range all {
		if err := lines.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

func (m Memory) line() any {
	return struct {
		Case     string  `json:"case"`
		System   string  `json:"system"`
		Data     string  `json:"data"`
		SignedIn bool    `json:"signed_in"`
		Tracked  bool    `json:"tracked"`
		Default  float64 `json:"bytes_default"`
		Advised  float64 `json:"bytes_advised"`
	}{"memory", m.Holder, m.Data, m.SignedIn, m.Tracked, round(m.Default), round(m.Advised)}
}

func (s Script) line() any {
	return struct {
		Case    string    `json:"case"`
		System  string    `json:"system"`
		Default []float64 `json:"us_default_rounds"`
		Advised []float64 `json:"us_advised_rounds"`
	}{"script", s.What, s.Default, s.Advised}
}

func (p InProcess) line() any {
	return struct {
		Case        string    `json:"case"`
		System      string    `json:"system"`
		Micros      []float64 `json:"us_rounds"`
		Allocations []float64 `json:"allocations_rounds"`
		Bytes       []float64 `json:"bytes_rounds"`
	}{"in-process", p.System, p.Micros, p.Allocations, p.Bytes}
}
