package shop

import (
	"bytes"
	"fmt"
	"net/http"
	"time"
)

// events writes server-sent events.
type events struct {
	w   http.ResponseWriter
	out *http.ResponseController
}

// startEvents begins a response of server-sent events. The server's ReadTimeout would end it.
func startEvents(w http.ResponseWriter) (*events, error) {
	e := &events{w, http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	return e, e.out.SetReadDeadline(time.Time{})
}

// send sends one event. A client that does not read for 10 seconds ends the response.
func (e *events) send(name string, data []byte) error {
	if err := e.out.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	lines := bytes.ReplaceAll(data, []byte("\n"), []byte("\ndata: "))
	if _, err := fmt.Fprintf(e.w, "event: %s\ndata: %s\n\n", name, lines); err != nil {
		return err
	}
	return e.out.Flush()
}
