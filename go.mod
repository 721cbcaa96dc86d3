module github.com/coatcheck-go/session

go 1.25.0

require (
	github.com/redis/rueidis v1.0.79
	go.etcd.io/bbolt v1.5.0
)

require golang.org/x/sys v0.47.0 // indirect
