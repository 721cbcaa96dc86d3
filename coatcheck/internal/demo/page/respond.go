package page

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strings"
)

// Accepts reports whether the Accept header names the media type. Browsers name text/html, curl
// sends "*/*".
func Accepts(r *http.Request, mediaType string) bool {
	for _, line := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			t, params, err := mime.ParseMediaType(part)
			if err != nil || t != mediaType {
				continue
			}
			q, given := params["q"]
			return !given || strings.Trim(q, "0.") != ""
		}
	}
	return false
}

// WriteText responds with one line of text.
func WriteText(w http.ResponseWriter, line string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := io.WriteString(w, line+"\n")
	return err
}

// WriteJSON responds with v as JSON.
func WriteJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}
