package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// kind is how a server is started.
type kind int

const (
	standalone kind = iota // or a replica
	clustered
	sentinel
)

// configure writes the node's configuration file, and the files that it refers to.
func (n *Node) configure() error {
	lines := []string{
		"bind 127.0.0.1",
		"dir " + strconv.Quote(n.dir),
		"unixsocket " + strconv.Quote(n.Socket()),
		"unixsocketperm 700",
		"daemonize no",
		`logfile ""`,
		`save ""`,
		"protected-mode no",
	}
	if n.kit.TLS {
		lines = append(lines, n.tlsLines()...)
	} else {
		lines = append(lines, fmt.Sprint("port ", n.port))
	}
	if n.kind != sentinel {
		lines = append(lines, n.dataLines()...)
	}
	lines = append(lines, n.extra...)
	if n.kind != sentinel {
		lines = append(lines, n.kit.Config...)
	}
	if err := n.writeSecrets(); err != nil {
		return err
	}
	return n.write("server.conf", lines...)
}

// dataLines configures a server that stores data.
func (n *Node) dataLines() []string {
	lines := []string{
		"enable-debug-command local",
		// With diskless replication, writes reach a new replica only a second after it calls itself
		// up to date.
		"repl-diskless-sync no",
		"rdb-del-sync-files yes",
	}
	if n.kit.password != "" {
		lines = append(lines,
			"aclfile "+strconv.Quote(n.path("users.acl")),
			"masteruser "+adminUser,
			"masterauth "+n.kit.password)
	}
	if n.kind == clustered {
		lines = append(lines,
			"cluster-enabled yes",
			"cluster-config-file nodes.conf",
			"cluster-node-timeout "+n.kit.downAfter(clusterDownAfter),
			"cluster-announce-ip 127.0.0.1",
			fmt.Sprint("cluster-port ", n.busPort))
	}
	return lines
}

// tlsLines restricts the server to TLS, for clients and for other servers.
func (n *Node) tlsLines() []string {
	lines := []string{
		"port 0",
		fmt.Sprint("tls-port ", n.port),
		"tls-ca-cert-file " + strconv.Quote(n.path("ca.crt")),
		"tls-cert-file " + strconv.Quote(n.path("server.crt")),
		"tls-key-file " + strconv.Quote(n.path("server.key")),
		"tls-auth-clients optional",
		"tls-replication yes",
	}
	if n.kind == clustered {
		lines = append(lines, "tls-cluster yes")
	}
	return lines
}

// writeSecrets writes the users and the certificate.
func (n *Node) writeSecrets() error {
	if n.kit.password != "" {
		users := []string{"user " + adminUser + " on >" + n.kit.password + " ~* &* +@all"}
		for _, rule := range n.kit.Users {
			users = append(users, "user "+rule)
		}
		if err := n.write("users.acl", users...); err != nil {
			return err
		}
	}
	if n.kit.cert == nil {
		return nil
	}
	for name, pem := range n.kit.cert.files {
		if err := n.write(name, pem); err != nil {
			return err
		}
	}
	return nil
}

// write writes a file in the node's directory.
func (n *Node) write(name string, lines ...string) error {
	return os.WriteFile(n.path(name), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// path returns the path of a file in the node's directory.
func (n *Node) path(name string) string {
	return filepath.Join(n.dir, name)
}
