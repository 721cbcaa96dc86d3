module github.com/coatcheck-go/session/examples/websockets

go 1.26.0

require (
	github.com/coatcheck-go/session v0.0.0-00010101000000-000000000000
	github.com/coder/websocket v1.8.15
	github.com/gorilla/websocket v1.5.3
)

require (
	github.com/redis/rueidis v1.0.79 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
