package redistest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// installHint says how to install the servers that are not on PATH.
const installHint = "redisstore/redistest/servers/install.sh installs redis-8.0 and valkey-8.1"

// Server is a server program. The zero Server stands for [Default].
type Server struct {
	Name string   // program and version: "redis-7.0"
	Argv []string // the program and its first arguments; the server's own arguments follow
	Env  []string // "KEY=value", added to the environment of this process
}

// Default returns the server program for tests. The environment variable COATCHECK_SERVER names it,
// as in [Named]. Without that variable it is redis-server on PATH. The error says how to install a
// server.
func Default() (Server, error) {
	if name := os.Getenv("COATCHECK_SERVER"); name != "" {
		return Named(name)
	}
	s, err := identify("redis-server")
	if errors.Is(err, exec.ErrNotFound) {
		return Server{}, fmt.Errorf("redistest: no redis-server on PATH: install it "+
			"(Debian: apt-get install redis-server), or set COATCHECK_SERVER to one of: %s (%s)",
			names(Servers()), installHint)
	}
	return s, err
}

// Servers returns the server programs of this machine: those on PATH, then those that
// servers/install.sh installed. Each name is listed once.
func Servers() []Server {
	var found []Server
	seen := map[string]bool{}
	add := func(path string) {
		if s, err := identify(path); err == nil && !seen[s.Name] {
			seen[s.Name] = true
			found = append(found, s)
		}
	}
	add("redis-server")
	add("valkey-server")
	installed, _ := filepath.Glob(filepath.Join(installFolder(), "*", "bin", "*-server"))
	for _, path := range installed {
		add(path)
	}
	return found
}

// Named returns the server program with a name, such as "redis-7.0", "redis-8.0" or "valkey-8.1". A
// name that contains a slash is the path of a program. The error lists the names that exist, and
// says how to install others.
func Named(name string) (Server, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return identify(name)
	}
	servers := Servers()
	for _, s := range servers {
		if s.Name == name {
			return s, nil
		}
	}
	return Server{}, fmt.Errorf("redistest: no server %q on this machine, found: %s (%s; others must be on PATH)",
		name, names(servers), installHint)
}

// installFolder returns the folder in which servers/install.sh installs servers.
func installFolder() string {
	if folder := os.Getenv("COATCHECK_SERVERS"); folder != "" {
		return folder
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, _ := os.UserHomeDir()
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "coatcheck", "servers")
}

// versionLine matches a server's reply to --version, such as "Redis server v=7.0.15 …".
var versionLine = regexp.MustCompile(`^(Redis|Valkey) server v=(\d+\.\d+)\.`)

// identify runs a program with --version and returns its name and version. A name without a slash
// is looked up on PATH.
func identify(program string) (Server, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return Server{}, fmt.Errorf("redistest: %w", err)
	}
	out, err := exec.Command(path, "--version").Output() //nolint:gosec,noctx // ends at once
	if err != nil {
		return Server{}, fmt.Errorf("redistest: %s --version: %w", path, err)
	}
	found := versionLine.FindSubmatch(out)
	if found == nil {
		return Server{}, fmt.Errorf("redistest: %s is neither Redis nor Valkey: it answers --version with %q", path, out)
	}
	return Server{Name: strings.ToLower(string(found[1])) + "-" + string(found[2]), Argv: []string{path}}, nil
}

// names joins the servers' names for an error message.
func names(servers []Server) string {
	var list []string
	for _, s := range servers {
		list = append(list, s.Name)
	}
	return cmp.Or(strings.Join(list, ", "), "none")
}
