package session

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
)

var updateVectors = flag.Bool("update-vectors", false, "write the files in format/vectors that this package's tests make")

// sameVectors writes the file if it is asked to, checks that it has v, and returns what it has.
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
		t.Errorf("%s is not what the code says: go test . ./internal/ticket -run Vectors -update-vectors", file)
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
