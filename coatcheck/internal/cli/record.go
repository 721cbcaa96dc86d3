package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/coatcheck-go/session/driver"
)

// shownRecord is a record as show prints it. Text that is masked is absent from JSON.
type shownRecord struct {
	Handle   string       `json:"handle"`
	User     *shownUser   `json:"user"` // null: nobody is signed in
	Created  time.Time    `json:"created"`
	LastUse  time.Time    `json:"last_use"`
	Expires  time.Time    `json:"expires"`
	Deadline time.Time    `json:"deadline"`
	Idle     float64      `json:"idle_limit"` // seconds
	Token    shownToken   `json:"token"`
	Revision uint64       `json:"revision"`
	Size     int          `json:"size"`
	Fields   []shownField `json:"fields"`
}

type shownUser struct {
	Owner         string    `json:"owner"`
	Authenticated time.Time `json:"authenticated"`
	Level         int       `json:"level"`
	Persistent    bool      `json:"persistent"`
	Sealed        bool      `json:"sealed"`
	User          string    `json:"user,omitempty"`
	Methods       []string  `json:"methods,omitempty"`
	Device        string    `json:"device,omitempty"`
	UserAgent     string    `json:"agent,omitempty"`
	Address       string    `json:"address,omitempty"`
}

type shownToken struct {
	Generation uint32    `json:"generation"`
	Issued     time.Time `json:"issued"`
	Previous   string    `json:"previous,omitempty"`
}

type shownField struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"`
	Bytes int     `json:"bytes"`
	Value *string `json:"value,omitempty"` // the stored text; null: masked
}

// describe returns what show prints of a record. values says whether texts are printed.
func describe(id driver.ID, r *driver.Record, now time.Time, values bool) *shownRecord {
	issued := r.Tokens.Issued
	if issued.IsZero() {
		issued = r.Created
	}
	out := &shownRecord{
		Handle: id.String(), Created: r.Created.UTC(), LastUse: r.Seen.UTC(), Expires: r.Expires().UTC(),
		Deadline: r.Deadline.UTC(), Idle: r.Idle.Seconds(), Revision: r.Revision, Size: r.Size,
		Token:  shownToken{r.Tokens.Generation, issued.UTC(), previousToken(&r.Tokens, now)},
		Fields: []shownField{},
	}
	if p := r.Principal; p != nil {
		out.User = &shownUser{
			Owner: p.Owner.String(), Authenticated: p.Authenticated.UTC(), Level: p.Level, Persistent: p.Persistent,
			Sealed: p.Sealed != "",
		}
		if values {
			u := out.User
			u.User, u.Methods, u.Device, u.UserAgent, u.Address = p.User, p.Methods, p.Device, p.UserAgent, p.Address
		}
	}
	for _, f := range r.Fields {
		field := shownField{Name: string(f.Key), Type: typeOf(f.Value), Bytes: len(f.Value)}
		if values {
			text := string(f.Value)
			field.Value = &text
		}
		out.Fields = append(out.Fields, field)
	}
	return out
}

// previousToken says what holds for the token before the current one.
func previousToken(t *driver.Tokens, now time.Time) string {
	switch {
	case t.Previous == (driver.Hash{}):
		return ""
	case t.PreviousAccepted && t.Unused:
		return "accepted: the new token was not used yet"
	case t.PreviousAccepted && now.Before(t.PreviousUntil):
		return "accepted for another " + rounded(t.PreviousUntil.Sub(now))
	case t.Unused:
		return "refused: the new token was not used yet"
	}
	return "refused"
}

// typeOf returns the JSON type of a stored value.
func typeOf(value []byte) string {
	if len(value) > 0 && value[0] == '~' {
		return "sealed"
	}
	var v any
	if json.Unmarshal(value, &v) != nil {
		return "not JSON"
	}
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case float64:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

func rounded(d time.Duration) string { return d.Round(time.Second).String() }

// print writes the record as tables, with times as they are read at now.
func (r *shownRecord) print(w io.Writer, now time.Time) error {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	at := func(name string, when time.Time) {
		if d := now.Sub(when); d >= 0 {
			row(name, "%s, %s ago", when.Format(time.RFC3339), rounded(d))
		} else {
			row(name, "%s, in %s", when.Format(time.RFC3339), rounded(-d))
		}
	}
	row("session", "%s", r.Handle)
	r.User.rows(row, at)
	at("created", r.Created)
	at("last use", r.LastUse)
	at("expires", r.Expires)
	at("deadline", r.Deadline)
	row("idle limit", "%s", time.Duration(r.Idle*float64(time.Second)))
	at("token issued", r.Token.Issued)
	row("generation", "%d", r.Token.Generation)
	if r.Token.Previous != "" {
		row("previous token", "%s", r.Token.Previous)
	}
	row("revision", "%d", r.Revision)
	row("size", "%d bytes", r.Size)
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Fields) > 0 {
		fmt.Fprintln(t, "\nfield\ttype\tbytes\tvalue")
	}
	for _, f := range r.Fields {
		value := "(masked: --values prints it)"
		if f.Value != nil {
			value = printable(*f.Value)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", printable(f.Name), f.Type, f.Bytes, value)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// rows writes the rows about the user. u is nil if nobody is signed in.
func (u *shownUser) rows(row func(name, format string, args ...any), at func(string, time.Time)) {
	if u == nil {
		row("user", "nobody is signed in")
		return
	}
	switch {
	case u.Sealed:
		row("user", "(sealed)")
	case u.User == "":
		row("user", "(masked: --values prints it)")
	default:
		row("user", "%s", printable(u.User))
	}
	row("owner", "%s", u.Owner)
	at("authenticated", u.Authenticated)
	for _, text := range []struct{ name, text string }{
		{"methods", strings.Join(u.Methods, " ")}, {"device", u.Device}, {"user agent", u.UserAgent}, {"address", u.Address},
	} {
		if text.text != "" {
			row(text.name, "%s", printable(text.text))
		}
	}
	row("level", "%d", u.Level)
	row("persistent", "%t", u.Persistent)
}

// printable quotes a text that would disturb a terminal or the table, or that has characters that
// are invisible or change the direction: it could look like another text.
func printable(text string) string {
	for _, r := range text {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			return strconv.Quote(text)
		}
	}
	return text
}
