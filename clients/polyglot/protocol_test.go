package polyglot_test

import "encoding/json"

// step is one line that a step program reads.
type step struct {
	ID      int64               `json:"id"`
	Client  json.RawMessage     `json:"client"`
	Token   string              `json:"token,omitempty"`
	Request string              `json:"request,omitempty"`
	Open    bool                `json:"open,omitempty"`
	Do      [][]json.RawMessage `json:"do,omitempty"`
}

// failed returns the reply to a step that was not made.
func (s step) failed(err error) reply {
	return reply{ID: s.ID, Outcome: outcomeOf(err), Error: err.Error()}
}

// reply is one line that a step program writes.
type reply struct {
	ID      int64             `json:"id"`
	Outcome string            `json:"outcome"`
	Values  []json.RawMessage `json:"values"`
	Session string            `json:"session"`         // "" stands for null
	Token   *token            `json:"token,omitempty"` // nil: the response sends no cookie
	Error   string            `json:"error,omitempty"`
}

// token is a new token. The empty one stands for null: the cookie is deleted.
type token string

// UnmarshalJSON is not called for null, so reply needs it through a raw message.
func (r *reply) UnmarshalJSON(b []byte) error {
	type plain reply
	var raw struct {
		plain
		Token json.RawMessage `json:"token"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*r = reply(raw.plain)
	if raw.Token == nil {
		return nil
	}
	r.Token = new(token)
	return json.Unmarshal(raw.Token, r.Token)
}

// MarshalJSON writes null for an empty session or token.
func (r reply) MarshalJSON() ([]byte, error) {
	m := map[string]any{"id": r.ID, "outcome": r.Outcome, "values": r.Values, "session": orNull(r.Session)}
	if r.Token != nil {
		m["token"] = orNull(string(*r.Token))
	}
	if r.Error != "" {
		m["error"] = r.Error
	}
	return json.Marshal(m)
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// stepper makes the request of a step. It serves several steps at the same time.
type stepper interface {
	step(s step) (reply, error)
}
