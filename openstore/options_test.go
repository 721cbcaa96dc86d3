package openstore

import (
	"reflect"
	"testing"
	"time"

	"github.com/coatcheck-go/session/filestore"
	"github.com/coatcheck-go/session/redisstore"
)

// TestEachOptionSetsItsField reads a query with every option.
func TestEachOptionSetsItsField(t *testing.T) {
	file, _, err := readOptions("durability=interval&every=2s", fileOptions)
	if want := (filestore.Options{Durability: filestore.Interval, Every: 2 * time.Second}); err != nil || file != want {
		t.Errorf("the options are %+v, error %v, want %+v", file, err, want)
	}
	redis, remaining, err := readOptions("namespace=shop&timeout=1s&max_age=2s&lease=3s&replica_timeout=4s&"+
		"replicas=5&events=6&fsync=true&near_cache=7KiB&db=8&password_file=/run/a", redisOptions, passedOn...)
	want := redisstore.Options{Namespace: "shop", Timeout: time.Second, MaxAge: 2 * time.Second, Lease: 3 * time.Second,
		ReplicaTimeout: 4 * time.Second, Replicas: 5, Events: 6, Fsync: true, NearCache: 7 << 10}
	if err != nil || !reflect.DeepEqual(redis, want) || remaining.Encode() != "db=8&password_file=%2Frun%2Fa" {
		t.Errorf("the options are %+v and %v, error %v, want %+v", redis, remaining, err, want)
	}
}
