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

// configTable returns a configuration as a table for people: one line for each field, with its value and what it means.
// Of keys it says only how many there are.
func configTable(c session.Config) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range configFields(reflect.ValueOf(c), "") {
		about := configMeanings[f.name]
		text := valueText(f.value)
		if f.value.IsZero() && about.zero != "" {
			text = about.zero
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.name, text, about.means)
	}
	_ = w.Flush() // a strings.Builder takes everything
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

type configField struct {
	name  string
	value reflect.Value
}

// configFields lists the fields of a configuration, those of Cookie as "Cookie.Name" and so on.
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

// configMeanings says what the fields of session.Config mean, and what to print for their zero value.
var configMeanings = map[string]struct{ zero, means string }{
	"Policy":             {"none", "fills in what is zero, and refuses what it forbids"},
	"IdleTimeout":        {"default", "a session ends when it is not used for so long"},
	"Lifetime":           {"default", "it ends so long after it began, whatever happens"},
	"RotateEvery":        {"never", "a token that is so old is replaced"},
	"MaxRemember":        {"not allowed", "lifetime that a sign-in may ask for beyond that"},
	"MaxPerUser":         {"no limit", "sessions of one user at the same time"},
	"RefuseExtra":        {"no", "at that limit refuse the sign-in, instead of ending the oldest session"},
	"KeepFields":         {"none", "fields of an anonymous session that come along at sign-in"},
	"UserKey":            {"none", "names users to the store without telling who they are"},
	"Cookie.Name":        {"default", "name of the cookie"},
	"Cookie.Path":        {"default", "path that it is sent to"},
	"Cookie.Domain":      {"this host alone", "hosts that it is sent to"},
	"Cookie.SameSite":    {"default", "which cross-site requests carry it"},
	"Cookie.Partitioned": {"no", "a cookie for each top-level site"},
	"Cookie.Persistent":  {"no", "it outlives the browser"},
	"ClearSiteData":      {"none", "what the browser forgets at sign-out"},
	"Bearer":             {"no", "tokens are accepted in Authorization, too"},
	"Cookie.Insecure":    {"no", "the cookie goes over plain http: for development"},
	"Keys":               {"none", "the first signs tokens, all are accepted"},
	"Seal":               {"no", "the store gets values and users' data encrypted with the first key"},
	"UnsignedUntil":      {"not accepted", "tokens without a signature, where there are keys"},
	"MaxSize":            {"default", "bytes of one session's keys and values"},
	"CommitTimeout":      {"default", "how long a commit may take"},
	"CrossOrigin":        {"same origin only", "who may send unsafe methods with the cookie"},
	"CSRF":               {"no", "unsafe methods with the cookie carry a token of the session's pages"},
	"CSRFExempt":         {"none", "routes that do without"},
	"OnError":            {"default", "answers requests that failed"},
	"OnEvent":            {"none", "is told what happens to sessions"},
	"Logger":             {"slog.Default()", "gets what failed; never a token"},
}

// valueText returns a value as text. Bytes are keys: there is nothing to see.
func valueText(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return shortDuration(x)
	case http.SameSite:
		if name := map[http.SameSite]string{
			http.SameSiteLaxMode: "Lax", http.SameSiteStrictMode: "Strict", http.SameSiteNoneMode: "None",
		}[x]; name != "" {
			return name
		}
	case time.Time:
		return "until " + x.UTC().Format(time.RFC3339)
	case bool:
		return map[bool]string{true: "yes", false: "no"}[x]
	case []string:
		return strings.Join(x, ", ")
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
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Float32, reflect.Float64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprint(v.Interface())
	}
	return "set" // whatever it is, it is not printed unless it is known to be fit
}

// shortDuration leaves out what is zero, and says how many days there are.
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
