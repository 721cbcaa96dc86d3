package cli

import (
	"io"
	"strings"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
	"github.com/coatcheck-go/session/memstore"
)

// store is a driver.Store that the command has opened and has to close.
type store interface {
	driver.Store
	io.Closer
}

// storeHelp says what openStore knows.
const storeHelp = `file:DIR (on disk in a directory, such as file:./coatcheck-data) or memory: (gone when the process ends)`

// openStore opens the store that url names. Its errors do not repeat the url beyond its scheme: it may hold a password.
func openStore(url string) (store, error) {
	scheme, rest, found := strings.Cut(url, ":")
	if !found {
		return nil, usagef("--store has no scheme: it is %s. Did you mean file:%s?", storeHelp, url)
	}
	switch scheme {
	case "file":
		return openFile(strings.TrimPrefix(rest, "//"))
	case "memory":
		if strings.Trim(rest, "/") != "" {
			return nil, usagef("--store memory: takes nothing after the colon")
		}
		return memstore.New(), nil
	default:
		return nil, usagef("--store: unknown scheme %q: it is %s", scheme, storeHelp)
	}
}

func openFile(dir string) (store, error) {
	if dir == "" {
		return nil, usagef("--store file: needs a directory, such as file:./coatcheck-data")
	}
	s, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		return nil, err
	}
	return s, nil
}
