module github.com/coatcheck-go/session/examples/logging

go 1.25.0

require (
	github.com/coatcheck-go/session v0.0.0-00010101000000-000000000000
	github.com/sirupsen/logrus v1.9.4
	go.uber.org/zap v1.27.1
)

require (
	go.uber.org/multierr v1.10.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
