package app

// CounterName is the name of the counter in a session.
const CounterName = "visits"

// userName is the name of the user's id in a session, for libraries without a sign-in.
const userName = "user"

// PayloadSize is the number of bytes of Payload as JSON.
const PayloadSize = 709

// Payload is the data that every session stores besides its counter, like that of a small shop. All
// libraries store the same amount.
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
