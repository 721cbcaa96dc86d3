package ticket

import (
	"bytes"
	"errors"
	"testing"

	"github.com/coatcheck-go/session/driver"
)

// TestResealer: fields of one session open in another after the Resealer, and only sealed values
// change.
func TestResealer(t *testing.T) {
	ring := mustRing(t, 7, 8)
	from, to := ring.Sealer(NewSecret()), ring.Sealer(NewSecret())
	dark, err := from.Seal("theme", []byte(`"dark"`))
	if err != nil {
		t.Fatal(err)
	}
	fields := driver.Fields{{Key: "n", Value: []byte("12")}, {Key: "theme", Value: dark}}
	r := ring.Resealer(to.Secret())
	first, err := r.Fields(from.Secret(), fields)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := to.Open("theme", first[1].Value); err != nil || string(plain) != `"dark"` {
		t.Errorf("the resealed value opens to %q, %v; want \"dark\"", plain, err)
	}
	if string(first[0].Value) != "12" {
		t.Errorf("a plain value becomes %q, want it unchanged", first[0].Value)
	}
	if !bytes.Equal(fields[1].Value, dark) {
		t.Error("Fields modified its argument")
	}
	second, err := r.Fields(from.Secret(), fields)
	if err != nil || !bytes.Equal(first[1].Value, second[1].Value) {
		t.Errorf("the value is %q first and %q then, %v; want the same", first[1].Value, second[1].Value, err)
	}
	moved := driver.Fields{{Key: "colour", Value: dark}}
	if got, err := r.Fields(from.Secret(), moved); got != nil || !errors.Is(err, ErrSealed) {
		t.Errorf("a value of another field is resealed to %v, %v; want ErrSealed", got, err)
	}
}
