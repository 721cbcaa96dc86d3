module github.com/coatcheck-go/session/examples/echo-counter

go 1.26.0

require (
	github.com/coatcheck-go/session v0.0.0-00010101000000-000000000000
	github.com/coatcheck-go/session/adapters/echo v0.0.0-00010101000000-000000000000
	github.com/labstack/echo/v5 v5.4.5
	github.com/sirupsen/logrus v1.10.2
)

require (
	github.com/redis/rueidis v1.0.79 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/time v0.15.0 // indirect
)
