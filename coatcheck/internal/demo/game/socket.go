package game

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// open is the route of the WebSocket. To open it is not a use of the session.
var open = session.Route{Passive: true}

// socket plays with one browser. Each message from it is a move. It gets the board whenever it
// changes. The WebSocket ends with the session.
func (g *game) socket(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if s.Info().Handle == "" {
		http.Error(w, "Open the page of the game first.", http.StatusForbidden)
		return nil
	}
	conn, err := websocket.Accept(w, r, nil) // refuses other origins
	if err != nil {
		return nil // Accept has responded
	}
	conn.SetReadLimit(100) // bytes of one message
	held, stop := open.Context(r.Context())
	defer stop()
	ctx, end := context.WithCancelCause(held)
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		_ = conn.Close(closeReason(context.Cause(ctx)))
		close(closed)
	})
	end(g.play(ctx, end, conn, s))
	<-closed
	return nil
}

// play plays until an error ends the game. It then removes the player from the board.
func (g *game) play(ctx context.Context, end context.CancelCauseFunc, conn *websocket.Conn, s *session.Session) error {
	board, err := g.Sessions.UserData(ctx, boardUser)
	if err != nil {
		return err
	}
	p := &seat{id: s.Info().Handle, name: nameOf(s), session: s, board: board, changed: make(chan struct{}, 1)}
	if err := p.join(ctx); err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { end(p.readMoves(ctx, conn)) })
	running.Go(func() { end(p.follow(ctx, p.session)) })
	running.Go(func() { end(p.follow(ctx, p.board)) })
	running.Go(func() { end(p.sendBoard(ctx, conn)) })
	running.Wait()
	return p.leave(context.WithoutCancel(ctx))
}

// nameOf returns the name that the others see.
func nameOf(s *session.Session) string {
	if s.User() != "" {
		return s.User()
	}
	return "Guest " + s.Info().Handle[:4]
}

// errRefused is the error of a player who does not play by the rules.
var errRefused = errors.New("refused")

// closeReason returns the status and the reason with which the WebSocket closes. After another
// status than StatusPolicyViolation, the browser connects again.
func closeReason(err error) (websocket.StatusCode, string) {
	switch {
	case errors.Is(err, session.ErrEnded):
		return websocket.StatusPolicyViolation, "the session has ended"
	case errors.Is(err, errors.ErrUnsupported):
		return websocket.StatusPolicyViolation, "this store keeps nothing that players can share"
	case errors.Is(err, errRefused):
		return websocket.StatusPolicyViolation, err.Error()
	}
	return websocket.StatusGoingAway, ""
}

const (
	maxMoves = 60 // a second
	maxBurst = 30 // moves at once, when the network delivers late
)

// readMoves plays the moves of the browser one by one, until one fails. Too many moves are not
// queued: they end the game.
func (p *seat) readMoves(ctx context.Context, conn *websocket.Conn) error {
	reading := context.WithoutCancel(ctx) // ends with Close, so that the browser gets the reason
	allowed, last := float64(maxBurst), time.Now()
	for {
		_, message, err := conn.Read(reading)
		if err != nil {
			return err // the browser has closed the connection
		}
		now := time.Now()
		allowed = min(maxBurst, allowed+maxMoves*now.Sub(last).Seconds()) - 1
		last = now
		if allowed < 0 {
			return fmt.Errorf("%w: more than %d moves a second", errRefused, maxMoves)
		}
		var to point
		if json.Unmarshal(message, &to) != nil {
			return fmt.Errorf("%w: that is not a move", errRefused)
		}
		if err := p.check(to); err != nil {
			return err
		}
		if err := p.move(ctx, to); err != nil {
			return err
		}
		p.show()
	}
}

// follow keeps a record up to date, and makes sendBoard send what others change.
func (p *seat) follow(ctx context.Context, record *session.Session) error {
	for _, err := range record.Watch(ctx) {
		if err != nil {
			return err
		}
		p.show()
	}
	return ctx.Err()
}

// show makes sendBoard send the board.
func (p *seat) show() {
	select {
	case p.changed <- struct{}{}:
	default: // it will send the newest state anyway
	}
}

// view is the board as a browser gets it.
type view struct {
	You     string            `json:"you"`
	Players map[string]player `json:"players"`
	Coins   map[string]point  `json:"coins"`
}

// sendBoard sends the board now, and whenever it has changed, at most 60 times a second. A browser
// that reads slowly gets fewer, and always the newest state.
func (p *seat) sendBoard(ctx context.Context, conn *websocket.Conn) error {
	frame := time.NewTicker(time.Second / 60)
	defer frame.Stop()
	for ctx.Err() == nil {
		v := view{p.id, map[string]player{}, map[string]point{}}
		for id, other := range players.All(p.board) {
			if time.Since(other.Moved) < idle {
				v.Players[id] = other
			}
		}
		v.Players[p.id] = p.player(place.Get(p.session)) // another tab may have left the board
		for key, coin := range coins.All(p.board) {
			v.Coins[key] = coin
		}
		if err := write(ctx, conn, v); err != nil {
			return err
		}
		<-frame.C
		select {
		case <-ctx.Done():
		case <-p.changed:
		}
	}
	return ctx.Err()
}

// write sends a message. A browser that does not read for 10 seconds ends its game.
func write(ctx context.Context, conn *websocket.Conn, v view) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return wsjson.Write(ctx, conn, v)
}
