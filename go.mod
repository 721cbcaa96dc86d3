module github.com/coatcheck-go/session

go 1.25
