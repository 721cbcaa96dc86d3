package filestore_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
	"github.com/coatcheck-go/session/storetest"
)

func TestStore(t *testing.T) {
	for _, o := range durabilities {
		t.Run(o.Durability.String(), func(t *testing.T) {
			var dirs sync.Map // the directories of open stores
			opened := func(t testing.TB, dir string) driver.Store {
				s := open(t, dir, o)
				dirs.Store(s, dir)
				return s
			}
			storetest.Run(t, storetest.Harness{
				Open: func(t testing.TB) driver.Store { return opened(t, filepath.Join(t.TempDir(), "new")) },
				Reopen: func(t testing.TB, s driver.Store) driver.Store {
					closeStore(t, s.(*filestore.Store))
					dir, _ := dirs.Load(s)
					return opened(t, dir.(string))
				},
				// Two processes cannot share a filestore. One store acts as both.
				Second: func(_ testing.TB, s driver.Store) driver.Store { return s },
				Len:    func(_ testing.TB, s driver.Store) int { return s.(*filestore.Store).Len() },
			})
		})
	}
}
