package ticket

import "github.com/coatcheck-go/session/driver"

// Resealer seals values of other sessions for one session. It leaves plain values plain: one may be
// a counter, which the store must be able to add to. It returns the same text each time it gets the
// same value, so that a store that asks twice gets the same answer. It is not safe for concurrent
// use.
type Resealer struct {
	to   *Sealer
	done map[stored][]byte
}

type stored struct {
	key  driver.Key
	text string
}

// Resealer returns the Resealer for the session whose "@id" is secret.
func (r *Ring) Resealer(secret driver.Secret) *Resealer {
	return &Resealer{r.Sealer(secret), map[stored][]byte{}}
}

// Value seals one stored value of the session that from opens.
func (r *Resealer) Value(from *Sealer, k driver.Key, value []byte) ([]byte, error) {
	if !IsSealed(value) {
		return value, nil
	}
	if text, ok := r.done[stored{k, string(value)}]; ok {
		return text, nil
	}
	plain, err := from.Open(k, value)
	if err != nil {
		return nil, err
	}
	text, err := r.to.Seal(k, plain)
	r.done[stored{k, string(value)}] = text
	return text, err
}

// Fields seals fields of the session whose "@id" is secret. It does not modify its argument.
func (r *Resealer) Fields(secret driver.Secret, fields driver.Fields) (driver.Fields, error) {
	var from *Sealer
	for i, f := range fields {
		if !IsSealed(f.Value) {
			continue
		}
		if from == nil {
			from, fields = r.to.ring.Sealer(secret), append(driver.Fields(nil), fields...)
		}
		var err error
		if fields[i].Value, err = r.Value(from, f.Key, f.Value); err != nil {
			return nil, err
		}
	}
	return fields, nil
}
