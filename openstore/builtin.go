package openstore

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/coatcheck-go/session/filestore"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/redisstore"
)

func builtIn() map[string]opener {
	all := map[string]opener{"memory": openMemory, "file": openFile}
	for _, scheme := range []string{
		"redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
	} {
		all[scheme] = openRedis
	}
	return all
}

func openMemory(_ context.Context, _, rest string) (Store, error) {
	if strings.Trim(rest, "/") != "" {
		return nil, wrong("memory: must have nothing after the colon")
	}
	return memstore.New(), nil
}

var fileOptions = map[string]set[filestore.Options]{
	"durability": func(o *filestore.Options, v string) error {
		for _, d := range []filestore.Durability{filestore.Always, filestore.Interval} {
			if v == d.String() {
				o.Durability = d
				return nil
			}
		}
		return errors.New("use always or interval")
	},
	"every": func(o *filestore.Options, v string) (err error) { o.Every, err = duration(v); return err },
}

func openFile(_ context.Context, _, rest string) (Store, error) {
	path, query, _ := strings.Cut(rest, "?")
	if after, slashes := strings.CutPrefix(path, "//"); slashes {
		if path = after; !strings.HasPrefix(path, "/") && path != "" {
			return nil, wrong("after file:// there is a host: for a directory write file:DIR or file:///DIR")
		}
	}
	dir, err := url.PathUnescape(path)
	switch {
	case err != nil:
		return nil, wrong("the directory is not percent-encoded: write %%25 for %% and %%3F for ?")
	case dir == "":
		return nil, wrong("file: needs a directory, such as file:./sessions")
	}
	o, _, err := readOptions(query, fileOptions)
	if err != nil {
		return nil, err
	}
	s, err := filestore.Open(dir, o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

var redisOptions = map[string]set[redisstore.Options]{
	"namespace":       func(o *redisstore.Options, v string) error { o.Namespace = v; return nil },
	"timeout":         func(o *redisstore.Options, v string) (err error) { o.Timeout, err = duration(v); return err },
	"max_age":         func(o *redisstore.Options, v string) (err error) { o.MaxAge, err = duration(v); return err },
	"lease":           func(o *redisstore.Options, v string) (err error) { o.Lease, err = duration(v); return err },
	"replica_timeout": func(o *redisstore.Options, v string) (err error) { o.ReplicaTimeout, err = duration(v); return err },
	"replicas":        func(o *redisstore.Options, v string) (err error) { o.Replicas, err = number(v); return err },
	"events":          func(o *redisstore.Options, v string) (err error) { o.Events, err = number(v); return err },
	"fsync":           func(o *redisstore.Options, v string) (err error) { o.Fsync, err = boolean(v); return err },
	"near_cache": func(o *redisstore.Options, v string) (err error) {
		if o.NearCache, err = size(v); o.NearCache == 0 {
			o.NearCache = -1 // none
		}
		return err
	},
}

// passedOn are the options that redisstore.Open reads itself.
var passedOn = []string{"db", "password_file", "sentinel_user", "sentinel_password", "sentinel_password_file"}

// openRedis reads no more of the URL than its options. The hosts, and passwords that url.Parse
// refuses, are up to redisstore.
func openRedis(ctx context.Context, scheme, rest string) (Store, error) {
	if !strings.HasPrefix(rest, "//") {
		return nil, wrong("%s: needs two slashes and a host, such as %[1]s://localhost", scheme)
	}
	before, query, _ := strings.Cut(rest, "?")
	if strings.Contains(query, "@") {
		return nil, wrong(`there is an @ after "?": write %%40 for @, and in a user or password %%3F for ?`)
	}
	o, remaining, err := readOptions(query, redisOptions, passedOn...)
	if err != nil {
		return nil, err
	}
	address := scheme + ":" + before
	if len(remaining) > 0 {
		address += "?" + remaining.Encode()
	}
	s, err := redisstore.Open(ctx, address, o)
	if err != nil {
		return nil, err
	}
	return s, nil
}
