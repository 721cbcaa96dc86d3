package cli

import (
	"fmt"
	"net/http"
	"path"
	"reflect"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/coatcheck-go/session"
)

// configTable returns a configuration as a table, with one line for each field: its name, its value
// and its meaning. It shows how many keys there are, and not the keys.
func configTable(c session.Config) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range configFields(reflect.ValueOf(c), "") {
		about := configMeanings[f.name]
		text := valueText(f.value)
		if f.value.IsZero() && about.zero != "" {
			text = about.zero
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.name, text, about.meaning)
	}
	_ = w.Flush() // writing to a strings.Builder never fails
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// configField is a field of session.Config. A field of Cookie has a dotted name, such as
// "Cookie.Name".
type configField struct {
	name  string
	value reflect.Value
}

// configFields lists the fields of a configuration in the order of their declaration.
func configFields(v reflect.Value, prefix string) (list []configField) {
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Name
		if v.Field(i).Type() == reflect.TypeFor[session.Cookie]() {
			list = append(list, configFields(v.Field(i), name+".")...)
			continue
		}
		list = append(list, configField{name, v.Field(i)})
	}
	return list
}

// configMeanings gives each field of session.Config its meaning. zero is the text for the zero
// value.
var configMeanings = map[string]struct{ zero, meaning string }{
	"Policy":             {"none", "sets fields that are zero, and refuses what it forbids"},
	"IdleTimeout":        {"default", "a session ends when it is not used for this long"},
	"FirstUseTimeout":    {"default", "a new anonymous session ends when its token does not come back within this time"},
	"Lifetime":           {"default", "a session ends this long after its creation, even if it is used"},
	"RotateEvery":        {"never", "age at which a token is replaced by a new one"},
	"MaxRemember":        {"not allowed", "longest lifetime that Login.Remember may ask for"},
	"MaxPerUser":         {"no limit", "how many sessions one user may have at the same time"},
	"RefuseExtra":        {"no", "at MaxPerUser, refuse the sign-in instead of ending the oldest session"},
	"KeepFields":         {"none", "fields of an anonymous session that are kept at sign-in"},
	"UserFields":         {"none", "fields that belong to the user, and join the user's data at sign-in"},
	"UserDataTimeout":    {"default", "the data of a user is deleted when it is not used for this long"},
	"UserKey":            {"none", "key that hashes user ids, so that the store's keys do not reveal them"},
	"Cookie.Name":        {"default", "name of the cookie"},
	"Cookie.Path":        {"default", "the cookie is sent to URLs below this path"},
	"Cookie.Domain":      {"this host only", "hosts that receive the cookie"},
	"Cookie.SameSite":    {"default", "which requests from other sites carry the cookie"},
	"Cookie.Partitioned": {"no", "browsers store one cookie for each top-level site (CHIPS)"},
	"Cookie.Persistent":  {"no", "the cookie outlives the browser"},
	"Cookie.Insecure":    {"no", "the cookie is sent over plain HTTP; for development only"},
	"ClearSiteData":      {"none", "data that the browser deletes at sign-out"},
	"Bearer":             {"no", "tokens are also accepted in the Authorization header"},
	"Keys":               {"none", "the first key signs tokens, every key verifies them"},
	"Seal":               {"no", "values and users' data are encrypted with the first of Keys"},
	"UnsignedUntil":      {"never", "until this time, tokens without a signature are accepted despite Keys"},
	"UndecodableIsUnset": {"no", "a stored value of another type counts as unset, instead of failing the request"},
	"MaxSize":            {"default", "how many bytes the names and values of one session may have"},
	"CommitTimeout":      {"default", "how long storing the changes of a request may take"},
	"WatchTimeout":       {"default", "how long open responses outlive an outage of the store"},
	"CrossOrigin":        {"same origin only", "origins whose unsafe requests may carry the cookie"},
	"CSRF":               {"no", "unsafe requests with the cookie need a CSRF token of the session"},
	"CSRFExempt":         {"none", "routes that need no CSRF token"},
	"OnError":            {"default", "writes the response of a failed request"},
	"OnEvent":            {"none", "receives the events of sessions"},
	"Observers":          {"none", "watch the calls of the store, for metrics and traces"},
	"Logger":             {"slog.Default()", "receives errors, and never a token"},
}

// valueText returns a value as text. Byte slices are keys, whose content stays hidden.
func valueText(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return shortDuration(x)
	case http.SameSite:
		if name := sameSiteNames[x]; name != "" {
			return name
		}
	case time.Time:
		return x.UTC().Format(time.RFC3339)
	case bool:
		return map[bool]string{true: "yes", false: "no"}[x]
	case []string:
		return strings.Join(x, ", ")
	case []session.Field:
		return strings.Join(fieldNames(x), ", ")
	case []byte:
		return "1 key"
	case [][]byte:
		if len(x) == 1 {
			return "1 key"
		}
		return fmt.Sprint(len(x), " keys")
	}
	switch v.Kind() {
	case reflect.Func:
		return path.Base(runtime.FuncForPC(v.Pointer()).Name())
	case reflect.Pointer, reflect.Interface:
		return "set"
	case reflect.String:
		return fmt.Sprintf("%.100q", v.String())
	case reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprint(v.Interface())
	}
	return "set" // an unknown kind could hold a secret
}

// fieldNames returns the names of fields, which are their texts.
func fieldNames(fields []session.Field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = fmt.Sprint(f)
	}
	return names
}

// sameSiteNames has the names that the Set-Cookie header uses.
var sameSiteNames = map[http.SameSite]string{
	http.SameSiteLaxMode:    "Lax",
	http.SameSiteStrictMode: "Strict",
	http.SameSiteNoneMode:   "None",
}

// shortDuration returns a duration without zero minutes and seconds, and adds the number of days.
func shortDuration(d time.Duration) string {
	const day = 24 * time.Hour
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if d > day && d%day == 0 {
		s += fmt.Sprintf(" (%d days)", d/day)
	}
	return s
}

// configJSON returns the fields of a configuration that have a JSON form. The fields of Cookie form
// an object of their own. Functions, loggers and keys are left out.
func configJSON(v reflect.Value) map[string]any {
	fields := map[string]any{}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch x := v.Field(i).Interface().(type) {
		case session.Cookie:
			fields[name] = configJSON(v.Field(i))
		case time.Duration:
			fields[name] = x.Seconds()
		case http.SameSite:
			fields[name] = sameSiteNames[x]
		case bool, int, string:
			fields[name] = x
		case []string:
			fields[name] = append([]string{}, x...) // an empty list instead of null
		case []session.Field:
			fields[name] = fieldNames(x)
		}
	}
	return fields
}
