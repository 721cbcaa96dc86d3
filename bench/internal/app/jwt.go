package app

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func init() {
	seed := []byte("a key for the benchmark only....")
	private := ed25519.NewKeyFromSeed(seed)
	registerJWT(JWTHMAC, jwtLibrary{jwt.SigningMethodHS256, seed, seed})
	registerJWT(JWTEdDSA, jwtLibrary{jwt.SigningMethodEdDSA, private, private.Public()})
}

func registerJWT(name string, l jwtLibrary) {
	register(System{
		Name:    name,
		Role:    Token,
		Modules: []string{"github.com/golang-jwt/jwt/v5"},
		Cases:   []string{CaseRead},
		Tests:   Tests{SignOut: true},
		open:    overNetHTTP(func(Options) (Library, error) { return l, nil }),
	})
}

// jwtLibrary keeps the data of a session in a signed token. A middleware verifies the token of each
// request. A token cannot be changed, and cannot be revoked before it expires.
type jwtLibrary struct {
	method       jwt.SigningMethod
	sign, verify any // keys
}

// jwtClaims has the fields of Long. A struct is faster than jwt.MapClaims.
type jwtClaims struct {
	Visits   int    `json:"visits"`
	Email    string `json:"account.email,omitempty"`
	Name     string `json:"account.name,omitempty"`
	Plan     string `json:"account.plan,omitempty"`
	Coupon   string `json:"cart.coupon,omitempty"`
	Items    string `json:"cart.items,omitempty"`
	CSRF     string `json:"csrf.token,omitempty"`
	Locale   string `json:"locale,omitempty"`
	Notice   string `json:"notice,omitempty"`
	State    string `json:"oauth.state,omitempty"`
	LastSeen string `json:"shop.last_seen,omitempty"`
	Referrer string `json:"shop.referrer,omitempty"`
	Searches string `json:"shop.searches,omitempty"`
	Theme    string `json:"theme,omitempty"`
	Timezone string `json:"timezone,omitempty"`
	jwt.RegisteredClaims
}

type jwtKey struct{}

// Handler verifies the token, and passes the claims on in the context.
func (l jwtLibrary) Handler(next http.Handler) http.Handler {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{l.method.Alg()}), jwt.WithExpirationRequired())
	key := func(*jwt.Token) (any, error) { return l.verify, nil }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie(cookieName); err == nil {
			claims := &jwtClaims{}
			if _, err := parser.ParseWithClaims(cookie.Value, claims, key); err != nil {
				http.Error(w, "invalid token", http.StatusUnauthorized)
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), jwtKey{}, claims))
		}
		next.ServeHTTP(w, r)
	})
}

func (jwtLibrary) Read(_ http.ResponseWriter, r *http.Request) (int, bool, error) {
	claims, ok := r.Context().Value(jwtKey{}).(*jwtClaims)
	if !ok {
		return 0, false, nil
	}
	return claims.Visits, true, nil
}

// errUnchangeable is the error for a write. A new token would be another one: the old token stays
// valid, and two writes at the same time make two tokens.
var errUnchangeable = errors.New("a JWT cannot be changed")

func (jwtLibrary) Add(http.ResponseWriter, *http.Request) error { return errUnchangeable }

func (l jwtLibrary) Fill(w http.ResponseWriter, _ *http.Request, data map[string]string) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	claims := &jwtClaims{Visits: 1}
	if err := json.Unmarshal(text, claims); err != nil {
		return err
	}
	return l.issue(w, claims)
}

func (l jwtLibrary) SignIn(w http.ResponseWriter, _ *http.Request, user string) error {
	return l.issue(w, &jwtClaims{RegisteredClaims: jwt.RegisteredClaims{Subject: user}})
}

// SignOut deletes the cookie. It cannot end the token.
func (jwtLibrary) SignOut(w http.ResponseWriter, _ *http.Request) error {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // this deletes the cookie
		Name: cookieName, Path: "/", MaxAge: -1,
	})
	return nil
}

// issue sets a cookie with a token.
func (l jwtLibrary) issue(w http.ResponseWriter, claims *jwtClaims) error {
	now := time.Now()
	claims.IssuedAt, claims.ExpiresAt = jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(time.Hour))
	token, err := jwt.NewWithClaims(l.method, claims).SignedString(l.sign)
	if err != nil {
		return err
	}
	setCookie(w, token)
	return nil
}
