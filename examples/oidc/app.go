// Command oidc is an example: an application that signs visitors in with an identity provider, by
// OpenID Connect. docs/identity-providers.md explains it.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// app signs visitors in with one identity provider.
type app struct {
	sessions *session.Manager
	oauth    oauth2.Config
	provider *oidc.Provider
	formPost bool // the provider returns by response_mode=form_post, as some do
}

// attempt is a sign-in that has begun. A visitor can begin one in each tab.
type attempt struct {
	Nonce    string    // comes back in the ID token, so that a stolen one is of no use
	Verifier string    // of PKCE: proves that the code comes back to who asked for it
	Next     string    // where the visitor wanted to go
	Began    time.Time // a revocation after this moment refuses the sign-in
}

const (
	attempts session.Map[attempt]        = "attempts" // by state
	tokens   session.Value[oauth2.Token] = "tokens"   // of the provider, sealed by Config.Seal
)

const maxAttempts = 10

// newApp returns the application. issuer is the URL of the identity provider.
func newApp(ctx context.Context, sessions *session.Manager, issuer string, client oauth2.Config) (*app, error) {
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, err
	}
	client.Endpoint = provider.Endpoint()
	client.Scopes = []string{oidc.ScopeOpenID, oidc.ScopeOfflineAccess}
	return &app{sessions: sessions, oauth: client, provider: provider}, nil
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /login", session.HandlerFunc(a.login))
	mux.Handle("GET /callback", session.HandlerFunc(a.callback))
	mux.Handle("POST /callback", session.HandlerFunc(a.callback))
	mux.Handle("POST /logout", session.Route{Down: session.DownAnonymous}.Handler(session.HandlerFunc(a.logout)))
	members := session.Route{SignedIn: true}
	recently := session.Route{SignedIn: true, MaxAuthAge: 10 * time.Minute}
	mux.Handle("GET /{$}", members.Handler(session.HandlerFunc(a.home)))
	mux.Handle("GET /password", recently.Handler(session.HandlerFunc(a.home)))
	return a.sessions.Handler(mux)
}

// onError sends visitors who have to sign in to the provider. It is Config.OnError.
func onError(w http.ResponseWriter, r *http.Request, err error) {
	here := url.QueryEscape(r.URL.RequestURI())
	switch {
	case r.Method == http.MethodGet && errors.Is(err, session.ErrNotSignedIn):
		http.Redirect(w, r, "/login?next="+here, http.StatusSeeOther)
	case r.Method == http.MethodGet && errors.Is(err, session.ErrNotFresh):
		http.Redirect(w, r, "/login?again=1&next="+here, http.StatusSeeOther)
	default:
		http.Error(w, session.Message(err), session.Status(err))
	}
}

// login sends the visitor to the provider.
func (a *app) login(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	state, try := oauth2.GenerateVerifier(), attempt{
		Nonce: oauth2.GenerateVerifier(), Verifier: oauth2.GenerateVerifier(),
		Next: localPath(r.FormValue("next")), Began: time.Now(),
	}
	open := 0
	for range attempts.All(s) {
		open++
	}
	if open >= maxAttempts { // those that were given up
		attempts.Clear(s)
	}
	attempts.Set(s, state, try)
	options := []oauth2.AuthCodeOption{oidc.Nonce(try.Nonce), oauth2.S256ChallengeOption(try.Verifier)}
	if r.FormValue("again") != "" {
		options = append(options, oauth2.SetAuthURLParam("max_age", "0"))
	}
	if a.formPost {
		options = append(options, oauth2.SetAuthURLParam("response_mode", "form_post"))
	}
	http.Redirect(w, r, a.oauth.AuthCodeURL(state, options...), http.StatusSeeOther)
	return nil
}

// callback receives the visitor back from the provider.
func (a *app) callback(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if r.Method == http.MethodPost && s.Info().Handle == "" && r.FormValue("again") == "" {
		return repost(w, r)
	}
	try, ok, err := attempts.Take(r.Context(), s, r.FormValue("state"))
	known := err == nil && ok
	if err != nil && !errors.Is(err, session.ErrInvalid) {
		return err
	}
	switch {
	case !known && s.User() != "": // signed in meanwhile, in another tab
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	case !known:
		return signInError("unknown or used state")
	case r.FormValue("error") != "":
		return signInError("the provider says " + r.FormValue("error"))
	}
	token, id, err := a.exchange(r.Context(), r.FormValue("code"), try)
	if err != nil {
		return signInError(err.Error())
	}
	login, err := loginOf(id, try)
	if err != nil {
		return signInError(err.Error())
	}
	login.UserAgent = r.UserAgent()
	if err := s.SignIn(r.Context(), login); err != nil {
		return err
	}
	tokens.Set(s, *token)
	http.Redirect(w, r, try.Next, http.StatusSeeOther)
	return nil
}

// exchange gets the tokens for a code, and checks the ID token.
func (a *app) exchange(ctx context.Context, code string, try attempt) (*oauth2.Token, *oidc.IDToken, error) {
	token, err := a.oauth.Exchange(ctx, code, oauth2.VerifierOption(try.Verifier))
	if err != nil {
		return nil, nil, err
	}
	text, _ := token.Extra("id_token").(string)
	id, err := a.provider.Verifier(&oidc.Config{ClientID: a.oauth.ClientID}).Verify(ctx, text)
	if err != nil {
		return nil, nil, err
	}
	if id.Nonce != try.Nonce {
		return nil, nil, errors.New("the ID token has another nonce")
	}
	return token, id, nil
}

// loginOf says what the ID token tells about the authentication.
func loginOf(id *oidc.IDToken, try attempt) (session.Login, error) {
	var claims struct {
		AuthTime int64    `json:"auth_time"`
		Methods  []string `json:"amr"`
	}
	if err := id.Claims(&claims); err != nil {
		return session.Login{}, err
	}
	login := session.Login{
		User:    id.Issuer + " " + id.Subject, // a subject is unique at its issuer only
		Methods: claims.Methods,
		Began:   try.Began,
	}
	if claims.AuthTime != 0 {
		login.Authenticated = time.Unix(claims.AuthTime, 0)
	}
	return login, nil
}

// accessToken returns an access token of the provider that has not expired.
func (a *app) accessToken(ctx context.Context, s *session.Session) (string, error) {
	var refused error
	token, err := tokens.Update(ctx, s, func(t oauth2.Token) (oauth2.Token, error) {
		// This asks the provider only if t has expired.
		fresh, err := a.oauth.TokenSource(ctx, &t).Token()
		refused = err
		if fresh == nil {
			return t, nil // if another node was faster, Update calls again with its token
		}
		return *fresh, nil
	})
	return token.AccessToken, errors.Join(err, refused)
}

func (a *app) home(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
	_, err := fmt.Fprintf(w, "signed in as %s\n", s.User())
	return err
}

func (a *app) logout(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if err := s.SignOut(r.Context()); err != nil {
		return err
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// localPath returns path if it leads to this site, and "/" otherwise.
func localPath(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return "/"
	}
	return path
}

// signInError is a sign-in that failed, and why. The client gets status 400.
type signInError string

func (e signInError) Error() string { return "sign-in: " + string(e) }

// StatusCode implements the interface that session.Status looks for.
func (signInError) StatusCode() int { return http.StatusBadRequest }
