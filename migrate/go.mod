module github.com/coatcheck-go/session/migrate

go 1.25.0

require (
	github.com/coatcheck-go/session v0.0.0-00010101000000-000000000000
	github.com/gorilla/securecookie v1.1.2
)
