module github.com/coatcheck-go/session/examples/microservices

go 1.26.0

require (
	github.com/chromedp/chromedp v0.22.1
	github.com/coatcheck-go/session v0.0.0-00010101000000-000000000000
)

require (
	github.com/chromedp/cdproto v0.159.0 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/redis/rueidis v1.0.79 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
