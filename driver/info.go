package driver

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// info is the JSON form of what a record says about its user in words. The user id is base64url,
// because it may be any bytes.
type info struct {
	User      string   `json:"user,omitempty"`
	Methods   []string `json:"methods,omitempty"`
	Device    string   `json:"device,omitempty"`
	UserAgent string   `json:"agent,omitempty"`
	Address   string   `json:"address,omitempty"`
}

// EncodeInfo returns the user, the methods and the device of p as JSON. The JSON is ASCII, so that
// it may be cut between any two bytes. It is stored in clear, or sealed as [Principal.Sealed].
func EncodeInfo(p *Principal) []byte {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(info{encoding.EncodeToString([]byte(p.User)), p.Methods, p.Device, p.UserAgent, p.Address})
	if err != nil {
		panic(err) // all members can be encoded
	}
	return asciiJSON(strings.TrimSuffix(b.String(), "\n"))
}

// asciiJSON returns a JSON text with all characters outside ASCII escaped.
func asciiJSON(text string) []byte {
	b := make([]byte, 0, len(text))
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf:
			b = append(b, byte(r))
		case r <= 0xffff:
			b = appendHex(append(b, `\u`...), uint64(r), 4)
		default:
			high, low := utf16.EncodeRune(r)
			b = appendHex(append(b, `\u`...), uint64(high), 4)
			b = appendHex(append(b, `\u`...), uint64(low), 4)
		}
	}
	return b
}

// DecodeInfo is the inverse of [EncodeInfo]. It sets the user, the methods and the device of p. It
// does not check their bounds: see [Principal.Check]. Errors: [ErrFormat], also for a member that
// it does not know, because a newer program wrote it.
func DecodeInfo(text []byte, p *Principal) error {
	var in info
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: there is data after the JSON", ErrFormat)
	}
	user, err := decodeBase64(in.User)
	if err != nil {
		return fmt.Errorf("%w: the user %.40q is not base64url", ErrFormat, in.User)
	}
	p.User, p.Methods, p.Device, p.UserAgent, p.Address = user, in.Methods, in.Device, in.UserAgent, in.Address
	return nil
}

// decodeBase64 refuses line breaks, which the package base64 skips.
func decodeBase64(text string) (string, error) {
	b, err := encoding.DecodeString(text)
	if err == nil && encoding.EncodedLen(len(b)) != len(text) {
		err = ErrFormat
	}
	return string(b), err
}

// Info is stored in parts, so that no value of a short session has more than 64 bytes: Redis then
// stores the session compactly.
const (
	infoPart     = 64                 // bytes of each part but the last
	maxInfoParts = MaxInfo / infoPart // 192
	listedParts  = 8                  // the parts that MetadataNames has
	nameInfo     = Key("@i")          // the first part; then "@i2", "@i3" …
)

// infoName returns the name of the part with an index from 0.
func infoName(i int) Key {
	if i == 0 {
		return nameInfo
	}
	return nameInfo + Key(strconv.Itoa(i+1))
}

// infoIndex is the inverse of infoName. It returns -1 for other names.
func infoIndex(k Key) int {
	number, ok := strings.CutPrefix(string(k), string(nameInfo))
	if !ok {
		return -1
	}
	if number == "" {
		return 0
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 2 || n > maxInfoParts || infoName(n-1) != k {
		return -1
	}
	return n - 1
}

// infoParts returns how many parts an info of that many bytes has.
func infoParts(size int) int { return (size + infoPart - 1) / infoPart }

// appendInfo appends the parts of an info.
func appendInfo(out []Field, text []byte) []Field {
	for i := 0; len(text) > 0; i++ {
		n := min(infoPart, len(text))
		out = append(out, Field{infoName(i), text[:n:n]})
		text = text[n:]
	}
	return out
}

// joinInfo joins the parts of an info of that many bytes.
func joinInfo(parts []string, size int) (string, error) {
	n := infoParts(size)
	if len(parts) > n {
		return "", fmt.Errorf("%w: %s is after the end of the info, which has %d bytes", ErrFormat, infoName(len(parts)-1), size)
	}
	for i := range n {
		want := min(infoPart, size-i*infoPart)
		if i >= len(parts) || parts[i] == "" {
			return "", fmt.Errorf("%w: %s is missing", ErrFormat, infoName(i))
		}
		if len(parts[i]) != want {
			return "", fmt.Errorf("%w: %s has %d bytes, not %d", ErrFormat, infoName(i), len(parts[i]), want)
		}
	}
	return strings.Join(parts, ""), nil
}
