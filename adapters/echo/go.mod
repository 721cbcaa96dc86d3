module github.com/coatcheck-go/session/adapters/echo

go 1.25.0

require (
	github.com/coatcheck-go/session v0.0.0-00010101000000-000000000000
	github.com/labstack/echo/v5 v5.4.5
)

require golang.org/x/time v0.15.0 // indirect
