package redisstore_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets more tests run at the same time than there are processors: most of them wait for a server's clock.
func TestMain(m *testing.M) {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		if err := flag.Set("test.parallel", "16"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
