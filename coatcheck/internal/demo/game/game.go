// Package game is the game of the tour: players in several browsers collect coins on one board.
//
//   - game.go has the state of the game, and its rules;
//   - socket.go speaks with a player's browser over a WebSocket.
package game

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/page"
)

var (
	//go:embed *.html *.js *.css
	files embed.FS
	html  = page.Parse(files, "game.html")

	//go:embed game.go
	source string
)

// Stop is the game in the tour.
var Stop = page.Stop{
	Path: "/game", Name: "Game",
	Shows: "Collect coins against other browsers: each move is a change of your session, and everyone sees it at once. " +
		"Of two players who touch one coin, exactly one gets it.",
	Files: files, Style: "game.css", Script: "game.js",
	Code: page.Code("game/game.go", source, "place", "boardUser", "move", "collect"),
}

// A player's state is in the session of the player.
const (
	place session.Value[point] = "game.place"
	score session.Counter      = "game.coins"
)

// Keep are the fields that a sign-in keeps.
var Keep = []string{string(place), string(score)}

// The board is the data of a user whom nobody can sign in as. All players share it, on all nodes:
// it shows each player to the others.
const (
	boardUser = " board of the game" // names of users do not begin with a space

	players session.Map[player] = "players" // by the handle of the session
	coins   session.Map[point]  = "coins"
)

type player struct {
	Name string `json:"name"`
	point
	Coins int64     `json:"coins"`
	Moved time.Time `json:"moved"`
}

type point struct {
	X int `json:"x"`
	Y int `json:"y"`
}

const (
	width, height = 1000, 600
	allCoins      = 8
	maxPlayers    = 12
	maxStep       = 60               // of one move
	reach         = 32               // how near a coin must be
	idle          = 30 * time.Second // after that, a player who does not move leaves the board
)

// seat is a player at the board.
type seat struct {
	id, name string
	session  *session.Session
	board    *session.Session
	changed  chan struct{} // holds a value: the browser has not yet got the newest board
}

// move stores where the player is: in the session first, because a session that has ended refuses
// the change. Then it is shown to the other players.
func (p *seat) move(ctx context.Context, to point) error {
	place.Set(p.session, to)
	if err := p.session.Commit(ctx); err != nil {
		return err
	}
	if err := players.SetWithin(ctx, p.board, p.id, p.player(to), maxPlayers); errors.Is(err, session.ErrLimit) {
		return errFull
	} else if err != nil {
		return err
	}
	for key, coin := range coins.All(p.board) {
		if distance(to, coin) < reach {
			if err := p.collect(ctx, key, coin); err != nil {
				return err
			}
		}
	}
	return nil
}

// player returns the player as the others see it.
func (p *seat) player(at point) player {
	return player{p.name, at, score.Get(p.session), time.Now()}
}

// collect moves a coin elsewhere, and counts it for the player. If two players do so at the same
// time, on whatever nodes, Update calls the function of one of them again, with the coin moved.
func (p *seat) collect(ctx context.Context, key string, seen point) error {
	_, err := coins.Update(ctx, p.board, key, func(coin point, ok bool) (point, error) {
		if !ok || coin != seen {
			return coin, errTaken
		}
		return somewhere(), nil
	})
	if errors.Is(err, errTaken) {
		return nil
	}
	if err != nil {
		return err
	}
	score.Add(p.session, 1)
	return p.session.Commit(ctx)
}

var errTaken = errors.New("another player has the coin")

// join puts the player on the board, and coins where some are missing.
func (p *seat) join(ctx context.Context) error {
	for id, other := range players.All(p.board) {
		if id != p.id && time.Since(other.Moved) > idle {
			players.Delete(p.board, id)
		}
	}
	for i := range allCoins {
		key := fmt.Sprint("coin", i)
		if _, ok := coins.Get(p.board, key); !ok {
			coins.Set(p.board, key, somewhere())
		}
	}
	return p.move(ctx, place.Get(p.session))
}

var errFull = fmt.Errorf("%w: the board is full, with %d players", errRefused, maxPlayers)

// leave removes the player from the board.
func (p *seat) leave(ctx context.Context) error {
	players.Delete(p.board, p.id)
	return p.board.Commit(ctx)
}

// check returns an error for a move that the rules forbid. The error is for the client.
func (p *seat) check(to point) error {
	if to.X < 0 || to.X > width || to.Y < 0 || to.Y > height {
		return fmt.Errorf("%w: that is not on the board", errRefused)
	}
	if distance(place.Get(p.session), to) > maxStep {
		return fmt.Errorf("%w: that is too far for one move", errRefused)
	}
	return nil
}

func distance(a, b point) float64 { return math.Hypot(float64(a.X-b.X), float64(a.Y-b.Y)) }

// somewhere returns a place on the board that is not at its edge.
func somewhere() point {
	const edge = 40
	//nolint:gosec // a game needs no secret numbers
	return point{edge + rand.IntN(width-2*edge), edge + rand.IntN(height-2*edge)}
}

type game struct{ *page.Site }

// Mount adds the routes of the stop to mux.
func Mount(mux *http.ServeMux, site *page.Site) {
	g := &game{site}
	mux.Handle("GET /game", session.HandlerFunc(g.page))
	mux.Handle("GET /game/socket", site.Open(session.HandlerFunc(g.socket)))
}

// page responds with the page. It stores a place in the session, because a WebSocket cannot begin a
// session: its response has no cookie.
func (g *game) page(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if _, ok, err := place.Lookup(s); err != nil || !ok {
		place.Set(s, somewhere())
	}
	return g.Render(w, r, s, html, nil)
}
