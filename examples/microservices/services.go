package main

// service is a program of the company that is not written in Go. Its folder has the program "run",
// which listens on 127.0.0.1:$PORT.
type service struct {
	folder string // also the first part of its paths
	title  string
}

var services = []service{
	{"shop", "Shop (Node)"},
	{"admin", "Devices (Python)"},
	{"ledger", "Orders (Java)"},
	{"page", "Page (PHP)"},
}
