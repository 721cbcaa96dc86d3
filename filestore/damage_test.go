package filestore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
)

const sample = 150 // the number of sessions in sampleFile

// sampleFile returns the bytes of a store's file with all kinds of pages: small records, records
// over several pages, and free pages. It also returns the bytes of the file some writes before.
func sampleFile(t *testing.T) (now, before []byte) {
	dir := t.TempDir()
	s := open(t, dir, filestore.Options{Durability: filestore.Interval})
	for n := range sample {
		size := 100 + n%7*50
		if n%50 == 0 {
			size = 12_000
		}
		create(t, s, n, set("pad", strings.Repeat("x", size)))
	}
	closeStore(t, s)
	before, err := os.ReadFile(file(dir))
	must(t, err)
	s = open(t, dir, filestore.Options{})
	for n := 0; n < sample; n += 20 {
		_, err := s.Apply(ctx, idOf(n), set("late", `"yes"`))
		must(t, err)
	}
	now, err = os.ReadFile(file(dir)) // the store is still open: the last write matters
	must(t, err)
	return now, before
}

// contents returns all sessions of a store as text.
func contents(s *filestore.Store) string {
	var b strings.Builder
	for n := range sample {
		r, _, err := s.Load(ctx, idOf(n))
		if err != nil {
			fmt.Fprintf(&b, "%d: %v\n", n, err)
			continue
		}
		fmt.Fprintf(&b, "%d: %q\n", n, driver.Encode(r))
	}
	return b.String()
}

// damaging opens files. Each must either be refused and left unchanged, or open without any loss.
type damaging struct {
	t       *testing.T
	dir     string
	whole   string
	refused int
	opened  int
}

func (d *damaging) try(what string, content []byte, words ...string) {
	d.t.Helper()
	must(d.t, os.WriteFile(file(d.dir), content, 0o600))
	s, err := filestore.Open(d.dir, filestore.Options{})
	if err != nil {
		d.refused++
		mustMention(d.t, err.Error(), append(words, file(d.dir), "move the file away")...)
		if got, _ := os.ReadFile(file(d.dir)); !bytes.Equal(got, content) {
			d.t.Errorf("%s: the file was changed", what)
		}
		return
	}
	d.opened++
	if len(words) > 0 {
		d.t.Errorf("%s: the file was opened, want an error", what)
	}
	if contents(s) != d.whole {
		d.t.Errorf("%s: the file was opened and sessions are lost or changed", what)
	}
	s.Close()
}

func begin(t *testing.T) (d *damaging, now, before []byte) {
	now, before = sampleFile(t)
	d = &damaging{t: t, dir: t.TempDir()}
	must(t, os.WriteFile(file(d.dir), now, 0o600))
	s := open(t, d.dir, filestore.Options{})
	d.whole = contents(s)
	closeStore(t, s)
	return d, now, before
}

// Any byte may be wrong. A file either opens without loss or is refused. It never causes a crash.
func TestFlippedBytes(t *testing.T) {
	d, good, _ := begin(t)
	page := os.Getpagesize()
	var at []int
	for p := range len(good) / page { // the headers of all pages and of their first entries
		for i := range 32 {
			if i < 16 || p < 8 {
				at = append(at, p*page+i)
			}
		}
	}
	for i := range 2 * (16 + 64) { // both headers of the file
		at = append(at, i/80*page+i%80)
	}
	for range 600 {
		at = append(at, rand.IntN(len(good)))
	}
	content := bytes.Clone(good)
	for _, i := range at {
		content[i] ^= byte(1 << rand.IntN(8))
		d.try(fmt.Sprintf("byte %d of page %d", i%page, i/page), content)
		content[i] = good[i]
	}
	if d.refused < len(at)/4 || d.opened == 0 {
		t.Errorf("%d files were refused, %d opened: the test covers too little", d.refused, d.opened)
	}
	t.Logf("%d flipped bytes: %d refused, %d harmless", len(at), d.refused, d.opened)
}

// A page may be lost or outdated, if a disk acknowledged a write that it did not do.
func TestLostAndOldPages(t *testing.T) {
	d, good, before := begin(t)
	page := os.Getpagesize()
	for p := range len(good) / page {
		content := bytes.Clone(good)
		clear(content[p*page : (p+1)*page])
		d.try(fmt.Sprintf("page %d is zero", p), content)
		if (p+1)*page <= len(before) {
			copy(content[p*page:], before[p*page:(p+1)*page])
			if p > 1 { // with its pages, an old header is a complete old state
				d.try(fmt.Sprintf("page %d is old", p), content)
			}
		}
		copy(content[p*page:(p+1)*page], good[(p+1)%3*page:])
		d.try(fmt.Sprintf("page %d is another", p), content)
	}
	if d.refused == 0 || d.opened == 0 {
		t.Errorf("%d files were refused, %d opened: the test covers too little", d.refused, d.opened)
	}
	t.Logf("%d refused, %d harmless", d.refused, d.opened)
}

func TestTruncated(t *testing.T) {
	d, good, _ := begin(t)
	page := os.Getpagesize()
	used := len(good)
	for used > page && len(bytes.Trim(good[used-page:used], "\x00")) == 0 {
		used -= page // space that bbolt allocated and did not fill
	}
	for n := 0; n < used-page; n += page {
		d.try(fmt.Sprintf("cut to %d bytes", n), good[:n], "damaged", "truncated")
		if n%(8*page) == 0 {
			d.try(fmt.Sprintf("cut to %d bytes", n+100), good[:n+100], "damaged", "truncated")
		}
	}
}

func TestFilesOfOtherPrograms(t *testing.T) {
	d, good, _ := begin(t)
	garbage := make([]byte, 100_000)
	for i := range garbage {
		garbage[i] = byte(rand.Uint32())
	}
	words := []string{"is not a store of this program", "another directory"}
	d.try("garbage", garbage, words...)
	d.try("text", []byte(strings.Repeat("Hello World\n", 10_000)), words...)
	d.try("another database", append([]byte("SQLite format 3\x00"), garbage...), words...)
	d.try("another version of bbolt",
		bytes.Replace(good, []byte{0xED, 0xDA, 0x0C, 0xED, 2}, []byte{0xED, 0xDA, 0x0C, 0xED, 3}, 1), words...)

	edit := func(f func(tx *bolt.Tx) error) []byte {
		t.Helper()
		must(t, os.WriteFile(file(d.dir), good, 0o600))
		db, err := bolt.Open(file(d.dir), 0o600, nil)
		must(t, err)
		must(t, db.Update(f))
		must(t, db.Close())
		b, err := os.ReadFile(file(d.dir))
		must(t, err)
		return b
	}
	put := func(bucket, key, value string) []byte {
		return edit(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), []byte(value))
		})
	}
	d.try("another program's buckets", put("users", "1", "ada"), append(words, `"users"`)...)
	d.try("a later format", put("meta", "format", "coatcheck sessions 2"), append(words, `"coatcheck sessions 2"`)...)
	d.try("no buckets", edit(func(tx *bolt.Tx) error {
		return errors.Join(tx.DeleteBucket([]byte("meta")), tx.DeleteBucket([]byte("sessions")))
	}), words...)
	d.try("no sessions", edit(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("sessions")) }), "damaged")
	d.try("a bad number", put("meta", "records", "many"), "damaged", `"many"`)
	d.try("a short key", put("sessions", "short", "value"), "damaged", "18 bytes")
	d.try("a short record", put("sessions", strings.Repeat("k", 18), "v"), "damaged",
		fmt.Sprintf("%x", strings.Repeat("k", 18)))
	d.try("a record of a later version", put("sessions", strings.Repeat("k", 18), "\x02....rest"), "damaged", "version 2")
	d.try("a record with a bad checksum", put("sessions", strings.Repeat("k", 18), "\x01....rest"), "damaged", "checksum")
	key := idOf(1)
	d.try("a lost record", edit(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("sessions")).Delete(append([]byte{byte(key.Bucket >> 8), byte(key.Bucket)},
			key.Selector[:]...))
	}), "damaged", "some are lost")
	d.try("a bucket in a bucket", edit(func(tx *bolt.Tx) error {
		_, err := tx.Bucket([]byte("meta")).CreateBucket([]byte("deep"))
		return err
	}), "damaged")
	if d.opened > 0 {
		t.Errorf("%d files were opened", d.opened)
	}
}

// A file that bbolt's tools wrote, with the list of free pages, is still a store.
func TestCompacted(t *testing.T) {
	d, good, _ := begin(t)
	must(t, os.WriteFile(file(d.dir), good, 0o600))
	from, err := bolt.Open(file(d.dir), 0o600, nil) // bbolt writes the list
	must(t, err)
	to, err := bolt.Open(file(d.dir)+".compact", 0o600, nil)
	must(t, err)
	must(t, bolt.Compact(to, from, 10_000))
	must(t, errors.Join(from.Close(), to.Close()))
	list, err := os.ReadFile(file(d.dir))
	must(t, err)
	must(t, os.WriteFile(file(d.dir)+".list", list, 0o600))
	for _, name := range []string{file(d.dir), file(d.dir) + ".compact"} {
		b, err := os.ReadFile(name)
		must(t, err)
		d.try(name, b)
	}
	if d.opened != 2 {
		t.Errorf("%d of 2 files were opened", d.opened)
	}

	// bbolt would overwrite a page that is in use and also in this list.
	b, err := os.ReadFile(file(d.dir) + ".list")
	must(t, err)
	found := false
	for at := 2 * os.Getpagesize(); at < len(b); at += os.Getpagesize() {
		if binary.NativeEndian.Uint16(b[at+8:]) == 0x10 && binary.NativeEndian.Uint16(b[at+10:]) > 0 {
			root := binary.NativeEndian.Uint64(b[16+16:])
			binary.NativeEndian.PutUint64(b[at+16:], root)
			found = true
		}
	}
	if !found {
		t.Fatal("the file has no list of free pages")
	}
	d.try("the root listed as free", b, "damaged", "listed as free")
}
