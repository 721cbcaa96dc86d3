package app

import (
	"encoding/json"
	"fmt"
	"time"
)

// CounterName is the name of the counter in a session.
const CounterName = "visits"

// userName is the name of the user's id in a session, for libraries without a sign-in.
const userName = "user"

// Data is what a session stores besides its counter.
type Data struct {
	Name   string
	Fields map[string]string
}

// Short and Long are the two amounts of data. No value of Short has more than 64 bytes. Redis can
// then store a hash of them in one piece with its default settings.
var (
	Short = Data{"6 short fields", shortPayload}
	Long  = Data{fmt.Sprintf("%d bytes in 15 fields", PayloadSize), Payload}
)

// DataNamed returns Short or, for any other name, Long.
func DataNamed(name string) Data {
	if name == Short.Name {
		return Short
	}
	return Long
}

// What FillSignedIn records about a sign-in, besides the user.
const (
	loginDevice  = "Firefox on Linux"
	loginAddress = "192.0.2.44"
)

var loginMethods = []string{"pwd"}

// JSON returns the same data as one JSON object, as a library stores it that keeps each session in
// one string. If user is not empty, it contains what FillSignedIn records about the sign-in.
func (d Data) JSON(user string) ([]byte, error) {
	all := map[string]any{CounterName: 1}
	for name, value := range d.Fields {
		all[name] = value
	}
	if user != "" {
		all[userName], all["signed_in"], all["methods"] = user, time.Now().UnixMilli(), loginMethods
		all["device"], all["address"] = loginDevice, loginAddress
	}
	return json.Marshal(all)
}

// shortPayload and the counter are six fields.
var shortPayload = map[string]string{
	"account.plan": "family",
	"cart.coupon":  "SPRING-26",
	"locale":       "en-GB",
	"theme":        "dark",
	"timezone":     "Europe/Amsterdam",
}

// PayloadSize is the number of bytes of Payload as JSON.
const PayloadSize = 709

// Payload is the data of Long, like that of a small shop. All libraries store the same.
var Payload = map[string]string{ //nolint:gosec // some of the invented values look like secrets
	"account.email":  "ada.lovelace@example.org",
	"account.name":   "Ada Lovelace",
	"account.plan":   "family",
	"cart.coupon":    "SPRING-26",
	"cart.items":     `[{"sku":"TEA-0417","n":2},{"sku":"CUP-1120","n":6},{"sku":"POT-0031","n":1}]`,
	"csrf.token":     "q4Jf0ZkS1cXw7mB9uYtR3nVe6hLpA8sDgK2xTzWiQoE",
	"locale":         "en-GB",
	"notice":         "Your parcel left Rotterdam this morning and should arrive on Thursday.",
	"oauth.state":    "kM3vB8nQ1zR6yT0wX5pL9sD2fG7hJ4aC",
	"shop.last_seen": "/teas/green/sencha-first-flush?origin=uji",
	"shop.referrer":  "https://www.example.com/journal/how-to-brew-green-tea-without-bitterness",
	"shop.searches":  "sencha; gyokuro; cast iron pot; cups without handles",
	"theme":          "dark",
	"timezone":       "Europe/Amsterdam",
}
