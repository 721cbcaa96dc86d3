package session

import (
	"fmt"
	"net/http"
	"path"
	"reflect"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// String returns the configuration as a table for people: a line for each field, with its value and what it means. Of keys it says how
// many there are, and nothing else. What is zero is shown as what [New] makes of it, or as "default"; [Manager.Config] has none of these.
func (c Config) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		about := fields[name]
		text := shown(v.Field(i))
		if v.Field(i).IsZero() && about.zero != "" {
			text = about.zero
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, text, about.means)
	}
	_ = w.Flush() // a strings.Builder takes everything
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// GoString is String, for %#v.
func (c Config) GoString() string { return c.String() }

// fields says what the fields of Config mean, and what they are when they are zero. A field that is not here is printed by its type.
var fields = map[string]struct{ zero, means string }{
	"Policy":        {"none", "fills in what is zero, and refuses what it forbids"},
	"IdleTimeout":   {"default", "a session ends when it is not used for so long"},
	"Lifetime":      {"default", "it ends so long after it began, whatever happens"},
	"RotateEvery":   {"never", "a token that is so old is replaced"},
	"KeepStolen":    {"no", "a stolen token is reported, and its session goes on"},
	"MaxRemember":   {"not allowed", "lifetime that a sign-in may ask for beyond that"},
	"MaxPerUser":    {"no limit", "sessions of one user at the same time"},
	"RefuseExtra":   {"no", "at that limit refuse the sign-in, instead of ending the oldest session"},
	"KeepFields":    {"none", "fields of an anonymous session that come along at sign-in"},
	"UserKey":       {"none", "names users to the store without telling who they are"},
	"CookieName":    {"default", "name of the cookie"},
	"CookiePath":    {"default", "path that it is sent to"},
	"CookieDomain":  {"this host alone", "hosts that it is sent to"},
	"SameSite":      {"default", "which cross-site requests carry it"},
	"Partitioned":   {"no", "a cookie for each top-level site"},
	"Persistent":    {"no", "it outlives the browser"},
	"ClearSiteData": {"none", "what the browser forgets at sign-out"},
	"Bearer":        {"no", "tokens are accepted in Authorization, too"},
	"InsecureHTTP":  {"no", "the cookie goes over plain http: for development"},
	"Keys":          {"none", "the first signs tokens, all are accepted"},
	"Seal":          {"no", "the store gets values and users' data encrypted with the first key"},
	"UnsignedUntil": {"not accepted", "tokens without a signature, where there are keys"},
	"MaxSize":       {"default", "bytes of one session's keys and values"},
	"CommitTimeout": {"default", "how long a commit may take"},
	"CrossOrigin":   {"same origin only", "who may send unsafe methods with the cookie"},
	"CSRF":          {"no", "unsafe methods with the cookie carry a token of the session's pages"},
	"CSRFExempt":    {"none", "routes that do without"},
	"OnError":       {"default", "answers requests that failed"},
	"OnEvent":       {"none", "is told what happens to sessions"},
	"Logger":        {"slog.Default()", "gets what failed; never a token"},
}

// shown returns a value as text. Bytes are keys: there is nothing to see.
func shown(v reflect.Value) string {
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
