package app

import (
	"net"
	"strconv"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/session"
	"github.com/gofiber/storage/redis/v3"
)

func init() {
	register(System{
		Name:   "fiber",
		Tests:  Tests{Updates: true, SignOut: true, Memory: true},
		SignIn: SignIn{NewToken: true},
		Modules: []string{
			"github.com/gofiber/fiber/v3", "github.com/gofiber/storage/redis/v3", "github.com/redis/go-redis/v9",
		},
		open: openFiber,
	})
}

// fiberServer is the application on fiber, which has its own requests and server instead of
// net/http.
type fiberServer struct {
	app   *fiber.App
	gate  *gate
	users users
}

// openFiber uses the session middleware as fiber's documentation recommends.
func openFiber(o Options) (Server, error) {
	s := &fiberServer{app: fiber.New(), gate: newGate()}
	s.app.Post(PathGateWait, func(c fiber.Ctx) error { return s.answer(c, answerDone, s.gate.wait()) })
	s.app.Post(PathGateOpen, func(c fiber.Ctx) error { return s.answer(c, answerDone, s.gate.open()) })

	storage := redis.New(redis.Config{Addrs: []string{o.Redis}, PoolSize: o.Pool})
	s.app.Use(session.New(session.Config{Storage: storage}))
	s.app.Get(PathRead, s.read)
	s.app.Post(PathWrite, s.write)
	s.app.Post(PathSignIn, s.signIn)
	s.app.Post(PathFill, s.fill)
	s.app.Get(PathValue, s.value)
	s.app.Post(PathSlow, s.slow)
	s.app.Post(PathSignOut, s.signOut)
	return s, nil
}

func (s *fiberServer) Serve(l net.Listener) error {
	return s.app.Listener(l, fiber.ListenConfig{DisableStartupMessage: true})
}

func (s *fiberServer) read(c fiber.Ctx) error {
	_, ok := session.FromContext(c).Get(CounterName).(int)
	return s.answer(c, answerRead, orNoSession(ok, nil))
}

func (s *fiberServer) write(c fiber.Ctx) error {
	addOne(session.FromContext(c))
	return s.answer(c, answerWrite, nil)
}

func (s *fiberServer) signIn(c fiber.Ctx) error {
	sess := session.FromContext(c)
	if err := sess.Regenerate(); err != nil {
		return s.answer(c, "", err)
	}
	sess.Set(userName, s.users.next())
	return s.answer(c, answerSignIn, nil)
}

func (s *fiberServer) fill(c fiber.Ctx) error {
	sess := session.FromContext(c)
	for name, value := range DataNamed(c.Query(queryData)).Fields {
		sess.Set(name, value)
	}
	sess.Set(CounterName, 1)
	return s.answer(c, answerDone, nil)
}

func (s *fiberServer) value(c fiber.Ctx) error {
	n, ok := session.FromContext(c).Get(CounterName).(int)
	return s.answer(c, strconv.Itoa(n)+"\n", orNoSession(ok, nil))
}

func (s *fiberServer) slow(c fiber.Ctx) error {
	sess := session.FromContext(c)
	_, ok := sess.Get(CounterName).(int)
	err := orNoSession(ok, nil)
	if err == nil {
		err = s.gate.pass()
	}
	if err == nil {
		addOne(sess)
	}
	return s.answer(c, answerDone, err)
}

func (s *fiberServer) signOut(c fiber.Ctx) error {
	return s.answer(c, answerDone, session.FromContext(c).Destroy())
}

func (s *fiberServer) answer(c fiber.Ctx, text string, err error) error {
	if err != nil {
		return c.Status(status(err)).SendString(err.Error() + "\n")
	}
	c.Set("Content-Type", contentType)
	for _, line := range header {
		c.Set(line[0], line[1])
	}
	return c.SendString(text)
}

func addOne(sess *session.Middleware) {
	n, _ := sess.Get(CounterName).(int)
	sess.Set(CounterName, n+1)
}
