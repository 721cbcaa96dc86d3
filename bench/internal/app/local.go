package app

import (
	"errors"
	"net/http"
)

// Local is the application of one system in this process, without a network.
type Local struct {
	http.Handler
	library Library
}

// OpenLocal opens the system with this name. The system must use net/http.
func OpenLocal(name string, o Options) (Local, error) {
	found, err := Find([]string{name})
	if err != nil {
		return Local{}, err
	}
	server, err := found[0].open(o)
	if err != nil {
		return Local{}, err
	}
	over, ok := server.(netHTTP)
	if !ok {
		return Local{}, errors.ErrUnsupported
	}
	return Local{over.Handler, over.library}, nil
}

// Close closes the system's connections to Redis, if it has any that it can close.
func (l Local) Close() {
	if library, ok := l.library.(interface{ close() }); ok {
		library.close()
	}
}
