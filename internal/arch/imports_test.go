package arch_test

import (
	"slices"
	"strings"
	"testing"
)

// What a rule may allow: a path of this repository (with "/..." also everything below it), the path
// of an external module, or one of these.
const (
	std     = "the standard library"
	outside = "any external module"
	public  = "everything of this repository except the internal packages of the root module"
	itself  = "packages of the same module"
)

// rule says what some packages may import, and why nothing else.
type rule struct {
	packages string
	may      []string
	why      string
}

// rules apply to all files except tests. The first rule whose pattern matches a package is the one
// that counts. Dependencies point one way: session imports driver, stores import driver, adapters
// and commands import session. Nothing points back.
var rules = []rule{
	{".", []string{std, "driver", "internal/ticket"},
		"an application that imports session must inherit no module, and no store that it does not use"},
	{"driver", []string{std}, "authors of stores depend on driver alone, so driver depends on nothing"},
	{"format", []string{std, "driver"}, "driver defines the format, whatever stores it"},
	{"internal/arch", []string{std}, "it inspects the repository from outside"},
	{"internal/ticket", []string{std, "driver"},
		"tokens and sealed values depend only on keys and on types of the contract"},
	{"internal/...", []string{std, "driver", "internal/..."},
		"stores are built on internal packages, so these may import the contract and no store"},
	{"memstore", []string{std, "driver", "internal/..."},
		"a store imports the contract and none of its users, so that any front end can use it"},
	{"filestore", []string{std, "driver", "internal/...", "go.etcd.io/bbolt/...", "golang.org/x/sys/..."},
		"the rule of memstore applies; only filestore uses the embedded database"},
	{"redisstore", []string{std, "driver", "github.com/redis/rueidis/..."},
		"the rule of memstore applies; only redisstore uses the Redis client"},
	{"sqlstore", []string{std, "driver", "openstore", "github.com/jackc/pgx/v5/...", "modernc.org/sqlite/..."},
		"the rule of memstore applies; only sqlstore uses SQL, and it registers its URLs with openstore"},
	{"openstore", []string{std, "driver", "memstore", "filestore", "redisstore"},
		"it opens the stores of the root module; those of other modules register with it"},
	{"policy", []string{std, "."}, "a preset is a function of a Config and needs nothing else"},
	{"redisstore/redistest", []string{std},
		"it tests the store and its client, so it must speak to the servers without them"},
	{"compat/...", []string{std, "driver", "internal/...", "compat/...", "github.com/redis/rueidis/..."},
		"a store in the format of another framework is a store like the others"},
	{"storetest", []string{std, "driver"},
		"authors of stores import it in their tests: it checks the contract, so it must import no implementation"},
	{"sessiontest", []string{std, ".", "driver", "memstore"}, "it helps applications to test, with sessions in memory"},
	{"adapters/otel", []string{std, outside, ".", "driver"}, "metrics also ask the store, through the abilities in driver"},
	{"adapters/prometheus", []string{std, outside, ".", "driver"}, "the rule of adapters/otel applies"},
	{"adapters/...", []string{std, outside, ".", itself},
		"an adapter joins session and one framework; the application chooses the store"},
	{"coatcheck/...", []string{std, outside, public},
		"the command is a user of the library: what it needs must be exported for other users too"},
	{"migrate", []string{std, ".", "driver", "github.com/gorilla/securecookie"},
		"a program that migrates keeps the version of its old library: migrate reads formats, and imports no library"},
	{"migrate/peers/...", []string{std, outside, public},
		"the tests of migrate with the old libraries; never released"},
	{"bench/...", []string{std, outside, public}, "the benchmark must measure what users get"},
	{"clients/...", []string{std, outside, public},
		"programs that test clients in other languages are users of the library"},
	{"examples/...", []string{std, outside, public}, "examples are users of the library"},
	{"deploy/...", []string{std, outside, public}, "examples are users of the library"},
}

func TestImportsAreAllowed(t *testing.T) {
	repo := load(t)
	for _, s := range repo.sources {
		i := slices.IndexFunc(rules, func(r rule) bool { return fits(s.dir, r.packages) })
		if i < 0 {
			t.Errorf("%s: no rule says what package %q may import: add one, with its reason, to rules in internal/arch",
				s.path, s.dir)
			continue
		}
		if s.test {
			continue
		}
		r := rules[i]
		for _, name := range s.imports() {
			if !slices.ContainsFunc(r.may, func(allowed string) bool { return repo.allows(allowed, name, s) }) {
				t.Errorf("%s imports %q: package %q may import only %q. Reason: %s", s.path, name, s.dir, r.may, r.why)
			}
		}
	}
}

// fits reports whether a path matches a pattern.
func fits(name, pattern string) bool {
	folder, below := strings.CutSuffix(pattern, "/...")
	return name == folder || below && strings.HasPrefix(name, folder+"/")
}

// allows reports whether file s may import name, according to one entry of a rule.
func (repo *tree) allows(allowed, name string, s *source) bool {
	first, _, _ := strings.Cut(name, "/")
	ours := repo.packages[name] != nil
	switch allowed {
	case std:
		return !ours && !strings.Contains(first, ".")
	case outside:
		return !ours && strings.Contains(first, ".")
	case public:
		return ours && !within(name, "internal")
	case itself:
		return ours && s.module != "." && within(name, s.module)
	}
	return fits(name, allowed)
}

// TestModulesStayApart covers tests as well. The compiler does not enforce this: the paths of the
// nested modules begin with the path of the root module, so it lets them import the root's internal
// packages.
func TestModulesStayApart(t *testing.T) {
	repo := load(t)
	for _, s := range repo.sources {
		for _, name := range s.imports() {
			switch m := repo.moduleOf(name); {
			case repo.packages[name] == nil:
			case s.module == "." && m != ".":
				t.Errorf("%s imports %q: the root module must not require a nested module, because its users would "+
					"inherit the dependencies", s.path, name)
			case s.module != "." && within(name, "internal"):
				t.Errorf("%s imports %q: a nested module is released by itself, so it may use only what the root module exports",
					s.path, name)
			}
		}
	}
}
