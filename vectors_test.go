package session

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
)

var updateVectors = flag.Bool("update-vectors", false, "update this package's files in format/vectors")

// sameVectors checks that a file of format/vectors contains v, and returns its contents. With
// -update-vectors it first writes the file.
func sameVectors(t *testing.T, name string, v any) []byte {
	t.Helper()
	file := "format/vectors/" + name
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *updateVectors {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s differs from what the code computes; to update it: "+
			"go test . ./internal/ticket -run Vectors -update-vectors", file)
	}
	return got
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
